"""Make the records in results/ again, one recipe at a time, in an order in which each finds what it reads (POSIX).

    python tools/records.py --since COMMIT      # every record that was not made by COMMIT or a later one
    python tools/records.py                     # continues: the same COMMIT, until all are made
    python tools/records.py --list              # what is missing, without running anything
    python tools/records.py --only play sine    # some of them, by name, and only if they are older than COMMIT
    python tools/records.py --only ways bench   # those that measure time, which must be asked for by name: on a quiet
                                                # machine, with the libraries that `make bench` installs

Stop it with Ctrl-C or a kill, start it again, and it goes on where it was: recipes keep their state under
runs/records/ (`--resume`), and so does this. What a recipe prints is in runs/records/NAME.log. A recipe that fails, and
those that read what it writes, are left out; the rest is made, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Recipe:
    """A command, the record that it writes, and the recipes that must have run before."""

    command: str
    record: str
    needs: tuple[str, ...] = ()
    timed: bool = False  # measures time: all cores, a quiet machine, begun anew if it is interrupted


def omniglot(settings: str) -> str:
    return f"recipes/omniglot.py --learner {settings}"


ZERO = ("maml --way 5 --shot 1 --zero-head --train-way 20 --meta-batch 1 --inner-lr 1.6 --test-steps 1 "
        "--iterations 10000")
TESTED = "--zero-head --checkpoint omniglot-maml-5w1s-zero.pt --test-steps 1"
RECIPES = {
    "play": Recipe("recipes/play.py", "glyphs-protonet"),
    "letters": Recipe("recipes/letters.py", "letters"),
    "heads": Recipe("recipes/heads.py", "heads"),
    "alphabet": Recipe("recipes/alphabet.py", "alphabet"),
    "leaks": Recipe("recipes/leaks.py", "leaks"),
    "sine": Recipe("recipes/sine.py", "sine"),
    "waves": Recipe("recipes/waves.py", "waves", ("sine",)),
    "joint": Recipe("recipes/joint.py", "joint"),
    "processes": Recipe("recipes/processes.py", "processes"),
    "bayes": Recipe("recipes/bayes.py", "bayes"),
    "glyphs-maml": Recipe("recipes/glyphs_maml.py", "glyphs-maml"),
    "cheaper": Recipe("recipes/cheaper.py", "cheaper"),
    "policies": Recipe("recipes/policies.py", "policies"),
    "policies-arms": Recipe("recipes/policies.py --only arms --iterations 1200 --meta-batch 256 --rates 0.02 0.04 0.08",
                            "policies-arms"),
    "policies-recurrent": Recipe("recipes/policies.py --only recurrent --iterations 1800 --rates 0.005 0.01 0.02",
                                 "policies-recurrent"),
    "league": Recipe("recipes/league.py", "league", ("cheaper",)),
    "medical": Recipe("recipes/medical.py", "medical"),
    "domains": Recipe("recipes/domains.py", "domains"),
    "intents": Recipe("recipes/intents.py", "intents"),
    "incontext-linear": Recipe("recipes/incontext.py linear", "incontext-linear"),
    "incontext-letters": Recipe("recipes/incontext.py letters", "incontext-letters"),
    "honest": Recipe("recipes/honest.py", "honest"),
    "curves": Recipe("recipes/curves.py", "curves"),
    "batchnorm": Recipe("recipes/batchnorm.py", "batchnorm", ("honest",)),
    "rates": Recipe("recipes/glyphs_sensitivity.py rates", "glyphs-sensitivity-rates"),
    "testing": Recipe("recipes/glyphs_sensitivity.py testing", "glyphs-sensitivity-testing", ("glyphs-maml",)),
    "levers-equal": Recipe("recipes/levers.py equal", "levers-equal", ("rates",)),
    "levers-cures": Recipe("recipes/levers.py cures", "levers-cures"),
    "levers-letters": Recipe("recipes/levers.py letters", "levers-letters"),
    "precision": Recipe("recipes/precision.py", "precision", ("glyphs-maml",)),
    "float32": Recipe("-m bench.float32", "float32"),
    "protonet-20w1s": Recipe(omniglot("protonet --way 20 --shot 1 --train-way 60 --iterations 7000"),
                             "omniglot-protonet-20w1s"),
    "protonet-5w1s": Recipe(omniglot("protonet --way 5 --shot 1"), "omniglot-protonet-5w1s"),
    "pretrained-5w1s": Recipe(omniglot("pretrained --way 5 --shot 1"), "omniglot-pretrained-5w1s"),
    "maml-5w1s": Recipe(omniglot("maml --way 5 --shot 1"), "omniglot-maml-5w1s"),
    "zero": Recipe(omniglot(ZERO), "omniglot-maml-5w1s-zero"),
    "zero-seed1": Recipe(omniglot(f"{ZERO} --seed 1"), "omniglot-maml-5w1s-zero-seed1"),
    "zero-5w5s": Recipe(omniglot(f"maml --way 5 --shot 5 {TESTED}"), "omniglot-maml-5w5s-zero", ("zero",)),
    "zero-20w1s": Recipe(omniglot(f"maml --way 20 --shot 1 {TESTED}"), "omniglot-maml-20w1s-zero", ("zero",)),
    "zero-20w5s": Recipe(omniglot(f"maml --way 20 --shot 5 {TESTED}"), "omniglot-maml-20w5s-zero", ("zero",)),
    "protonet-5w5s": Recipe(omniglot("protonet --way 5 --shot 5 --checkpoint omniglot-protonet-20w1s.pt"),
                            "omniglot-protonet-5w5s", ("protonet-20w1s",)),
    "protonet-20w5s": Recipe(omniglot("protonet --way 20 --shot 5 --checkpoint omniglot-protonet-20w1s.pt"),
                             "omniglot-protonet-20w5s", ("protonet-20w1s",)),
    "protocols": Recipe("recipes/protocols.py", "protocols",
                        ("protonet-20w1s", "protonet-5w1s", "pretrained-5w1s", "maml-5w1s")),
    "ways": Recipe("-m bench.ways", "ways", timed=True),
    "bench": Recipe("-m bench", "bench-cpu", timed=True),
}


def main() -> int:
    args = parse()
    args.runs.mkdir(parents=True, exist_ok=True)
    lock = open(args.runs / "lock", "w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another process is making records ({args.runs / 'lock'} is locked): wait for it, or stop it")
    since = begin(args.runs / "since", args.since)
    failed = 0
    for name in (n for n in RECIPES if n in args.only):
        recipe = RECIPES[name]
        if is_newer(recipe.record, since):
            print(f"{name}: made", flush=True)
        elif args.list:
            print(f"{name}: to make  (python {recipe.command})", flush=True)
        elif without := [n for n in recipe.needs if not is_newer(RECIPES[n].record, since)]:
            failed += 1
            print(f"{name}: left out, because it reads what {' and '.join(without)} writes", flush=True)
        else:
            failed += not make(name, recipe, args.runs, since)
    return 1 if failed else 0


def begin(file: Path, since: str | None) -> str:
    """The commit whose records are wanted, kept in a file for the next start."""
    if since is None and not file.exists():
        sys.exit("--since COMMIT is needed the first time: records of that commit or a later one are not made again")
    name = since or file.read_text(encoding="utf-8").strip()
    found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if not found:
        sys.exit(f"--since {name}: this repository has no such commit")
    file.write_text(found + "\n", encoding="utf-8")
    return found


def is_newer(record: str, since: str) -> bool:
    """Whether results/RECORD.json was made by the commit `since` or a descendant of it, from its first start on."""
    path = ROOT / "results" / f"{record}.json"
    if not path.exists():
        return False
    content = json.loads(path.read_text(encoding="utf-8"))
    starts = content.get("starts")  # commits; sine.json has networks of that name
    return all_since(since, starts if isinstance(starts, list) else [content.get("commit", "unknown")])


def all_since(since: str, commits: list[str]) -> bool:
    return all(git("merge-base", "--is-ancestor", since, commit) is not None for commit in commits)


def make(name: str, recipe: Recipe, runs: Path, since: str) -> bool:
    """Run one recipe to its end; whether its record was written."""
    command = [sys.executable, *recipe.command.split(), "--force"]
    if not recipe.timed:
        state, parts = runs / f"{name}.ckpt", runs / f"{name}.ckpt.parts"
        notes = parts / "parts.json"
        if notes.exists() and not all_since(since, json.loads(notes.read_text(encoding="utf-8"))["commits"]):
            print(f"{name}: what is kept in {state} was begun by older code, and is thrown away", flush=True)
            state.unlink(missing_ok=True)
            shutil.rmtree(parts)
        command += ["--resume", str(state)]
    env = os.environ | {"METALIB_QUIET": "1", "PYTHONUNBUFFERED": "1",
                        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    if not recipe.timed:
        env["OMP_NUM_THREADS"] = "1"
    print(f"{name}: begins {time.strftime('%H:%M:%S')}", flush=True)
    began = time.monotonic()
    with open(runs / f"{name}.log", "a", encoding="utf-8") as log:
        log.write(f"\n--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(command[1:])}\n")
        log.flush()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)  # signals reach it through us alone

        stopped: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:
            stopped.append(number)
            process.send_signal(signal.SIGINT)  # the recipe writes its state, then ends

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while (code := process.poll()) is None:
                time.sleep(0.2)  # not one long wait: a signal that comes just before it would be seen after it
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if stopped:
        sys.exit(f"{name}: stopped; start again to continue")
    minutes = (time.monotonic() - began) / 60
    if code:
        print(f"{name}: FAILED after {minutes:.1f} minutes (exit {code}); see {runs / name}.log", flush=True)
        return False
    print(f"{name}: made in {minutes:.1f} minutes", flush=True)
    return True


def git(*arguments: str) -> str | None:
    """What git prints, or None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8")
    return done.stdout.strip() if done.returncode == 0 else None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", metavar="COMMIT", help="records made by this commit or later are not made again")
    parser.add_argument("--list", action="store_true", help="say what would be made")
    parser.add_argument("--only", nargs="+", choices=RECIPES, metavar="NAME",
                        default=[name for name, recipe in RECIPES.items() if not recipe.timed],
                        help=", ".join(RECIPES))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "records", help="folder for logs and state")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
