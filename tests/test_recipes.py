"""A recipe overwrites nothing unasked, loses nothing when it is interrupted, and writes its files whole."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import metalib
from conftest import ROOT
from recipes import record
from tools import records

BENCHES = {"__main__": ["--rows", "ProtoNet"], "ways": [], "float32": ["--seeds", "1"],
           "gpu": ["--device", "cpu", "--tiny"]}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A project folder with nothing in it: what `record` writes goes there."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    import record as script_record  # the same file: what a recipe, run as a script, imports

    for module in (record, script_record):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def start(monkeypatch, root, script, *options):
    """Run a script as `python SCRIPT OPTIONS` in a project at `root` does."""
    monkeypatch.setattr(sys, "argv", [str(root / script), *map(str, options)])
    exec(compile((ROOT / script).read_text(encoding="utf-8"), script, "exec"), {"__name__": "__main__"})


# --- nothing is overwritten unasked ------------------------------------------------------------------------

@pytest.fixture
def no_work(monkeypatch):
    def work(*arguments, **options):
        raise AssertionError("work began before the files were checked")

    for name in ("meta_train", "meta_test", "meta_test_path", "meta_gradient", "omniglot"):
        monkeypatch.setattr(metalib, name, work)
    return work


@pytest.mark.parametrize("name", [n for n, r in records.RECIPES.items() if r.command.startswith("recipes/")])
def test_a_recipe_refuses_to_replace_a_record_before_any_work(name, elsewhere, monkeypatch, no_work, one_thread):
    script, *options = records.RECIPES[name].command.split()
    file = elsewhere / "results" / f"{records.RECIPES[name].record}.json"
    file.parent.mkdir()
    file.write_text("made before", encoding="utf-8")
    with pytest.raises(SystemExit, match=f"results/{file.name} exists, .*--force replaces it"):
        start(monkeypatch, elsewhere, script, *options)
    assert file.read_text(encoding="utf-8") == "made before" and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("name", BENCHES)
def test_a_benchmark_refuses_too(name, elsewhere, monkeypatch, no_work, one_thread):
    monkeypatch.setattr(subprocess, "Popen", no_work)
    (elsewhere / "results").mkdir()
    slug = "gpu-" + "-".join(record.device_name().lower().replace(",", "").replace("_", "-").split())
    for file in ("bench-cpu", "ways", "float32", slug):
        (elsewhere / "results" / f"{file}.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"results/[\w-]+\.json exists, .*--force replaces"):
        start(monkeypatch, elsewhere, f"bench/{name}.py", *BENCHES[name])


def arguments(**settings):
    return argparse.Namespace(**{"force": False, "resume": None, **settings})


def test_every_file_that_is_in_the_way_is_named(elsewhere):
    (elsewhere / "results" / "checkpoints").mkdir(parents=True)
    (elsewhere / "results" / "mine.json").write_text("{}", encoding="utf-8")
    record.checkpoint("mine").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit, match="results/mine.json and results/checkpoints/mine.pt exist"):
        record.Work("mine", arguments(), record.checkpoint("mine"))
    (elsewhere / "results" / "mine.json").unlink()
    with pytest.raises(SystemExit, match="^results/checkpoints/mine.pt exists, and nothing has been computed yet"):
        record.Work("mine", arguments(), record.checkpoint("mine"))
    record.Work("mine", arguments(force=True), record.checkpoint("mine"))
    record.Work("another", arguments(), record.checkpoint("another"))


def test_of_two_runs_with_one_name_the_later_one_replaces_nothing(elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(elsewhere / "recipes" / "x.py")])
    learners = {record.checkpoint("x"): metalib.ProtoNet(metalib.conv4(channels=8))}
    first, second, forced = (record.Work("x", arguments(force=force)) for force in (False, False, True))
    first.write({"value": 1}, learners)
    late = second.write({"value": 2}, learners)
    assert json.loads((elsewhere / "results" / "x.json").read_text(encoding="utf-8"))["value"] == 1
    assert json.loads(late.read_text(encoding="utf-8"))["value"] == 2 and late.stem == f"x-{os.getpid()}"
    assert record.checkpoint(late.stem).exists() and "came while this ran" in capsys.readouterr().out
    assert forced.write({"value": 3}, learners).name == "x.json"


# --- nothing is lost ---------------------------------------------------------------------------------------

def test_finished_parts_survive_and_the_folder_is_made(elsewhere, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(elsewhere / "recipes" / "x.py"), "--resume", "runs/x", "--seed", "3"])
    args, calls = arguments(resume=elsewhere / "runs" / "deep" / "x", seed=3), []

    def make(key, fails=False):
        calls.append(key)
        if fails:
            raise KeyboardInterrupt
        return {"key": key, "pair": (1, 2)}

    first = record.Work("x", args)
    assert first.part("a", lambda: make("a")) == {"key": "a", "pair": [1, 2]}
    with pytest.raises(KeyboardInterrupt):
        first.part("b", lambda: make("b", fails=True))
    first.kept["spent"] = {"wall_seconds": 100.0, "cpu_seconds": 50.0}
    record.write_whole(first.notes, json.dumps(first.kept))

    second = record.Work("x", args)
    assert second.part("a", lambda: make("a"))["key"] == "a" and second.part("b", lambda: make("b"))["key"] == "b"
    assert calls == ["a", "b", "b"]
    spent = second.spent()
    assert spent["wall_seconds"] >= 100 and spent["cpu_seconds"] >= 50
    learner = metalib.ProtoNet(metalib.conv4(channels=8))
    path = second.write({**spent, "value": 7}, {record.checkpoint("x"): learner})
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["value"] == 7 and kept["starts"] == [record.COMMIT] * 2
    assert kept["command"] == "python recipes/x.py --seed 3", "where the state was kept is not part of the command"
    assert metalib.load(record.checkpoint("x")).encoder.channels == 8
    assert list((elsewhere / "runs" / "deep").iterdir()) == [], "a finished run leaves no state behind"


@pytest.mark.parametrize("changed", [{"seed": 4}, {"iterations": 20}, {"lr": 0.1}])
def test_parts_of_a_run_with_other_settings_are_refused(elsewhere, changed):
    args = {"resume": elsewhere / "runs" / "x", "seed": 3}
    record.Work("x", arguments(**args)).part("a", lambda: 1)
    (name,) = changed
    with pytest.raises(SystemExit, match=f"other settings .*{name}: .*, now {changed[name]}"):
        record.Work("x", arguments(**args | changed))


def test_resume_names_a_file_not_a_folder(elsewhere):
    with pytest.raises(SystemExit, match="is a folder: name a file"):
        record.Work("x", arguments(resume=elsewhere))


def test_a_record_is_whole_or_absent(tmp_path, monkeypatch):
    file = tmp_path / "record.json"
    file.write_text("old", encoding="utf-8")

    def killed(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        record.write_whole(file, "new" * 10_000)
    assert file.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [file]


@pytest.fixture
def few_characters(monkeypatch):
    """glyphs(), in place of an Omniglot that may not be on this machine."""
    monkeypatch.setattr(metalib, "omniglot", lambda *arguments, **options: metalib.glyphs())


TINY = ["--learner", "maml", "--device", "cpu", "--iterations", 6, "--channels", 8, "--train-query", 1, "--episodes", 4,
        "--val-episodes", 2]


def test_omniglot_runs_on_the_cpu_and_an_interrupted_run_ends_as_a_whole_one(elsewhere, few_characters, monkeypatch,
                                                                            one_thread):
    start(monkeypatch, elsewhere, "recipes/omniglot.py", *TINY, "--name", "whole")

    train, sample, drawn = metalib.meta_train, metalib.FewShot.sample, []

    def often(learner, tasks, config, val):
        return train(learner, tasks, metalib.TrainConfig(**{**vars(config), "checkpoint_every": 1}), val)

    def three(self, n, *, generator):
        if n > 1:  # a meta-batch of training
            drawn.append(n)
        if len(drawn) > 3:
            raise KeyboardInterrupt
        return sample(self, n, generator=generator)

    monkeypatch.setattr(metalib, "meta_train", often)
    part = [*TINY, "--name", "parts", "--resume", elsewhere / "runs" / "parts.ckpt"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(metalib.FewShot, "sample", three)
        start(patch, elsewhere, "recipes/omniglot.py", *part)
    assert {p.name for p in (elsewhere / "results").glob("*.json")} == {"whole.json"}
    start(monkeypatch, elsewhere, "recipes/omniglot.py", *part)  # the same command again
    whole, parts = (json.loads((elsewhere / "results" / f"{n}.json").read_text(encoding="utf-8"))
                    for n in ("whole", "parts"))
    assert whole["test"] == parts["test"] and whole["history"] == parts["history"] and len(parts["starts"]) == 2
    assert whole["image_passes"] == 6 * 4 * (3 * 5 + 5) and whole["device"] == record.device_name("cpu")
    a, b = (metalib.load(elsewhere / "results" / "checkpoints" / f"{n}.pt").state_dict() for n in ("whole", "parts"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    with pytest.raises(SystemExit, match="results/parts.json and results/checkpoints/parts.pt exist"):
        start(monkeypatch, elsewhere, "recipes/omniglot.py", *part)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_omniglot_says_which_device_is_missing(device, elsewhere, no_work, monkeypatch, capsys):
    if {"cuda": torch.cuda, "mps": torch.backends.mps}[device].is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        start(monkeypatch, elsewhere, "recipes/omniglot.py", "--learner", "maml", "--device", device)
    assert f"--device {device}: PyTorch finds no such device here" in capsys.readouterr().err


# --- the league: one file a run ----------------------------------------------------------------------------

@pytest.fixture
def with_chapter_8(elsewhere):
    (elsewhere / "results").mkdir()
    (elsewhere / "results" / "cheaper.json").write_bytes((ROOT / "results" / "cheaper.json").read_bytes())
    return elsewhere


def test_the_league_keeps_a_file_for_each_run_and_computes_only_what_is_missing(with_chapter_8, monkeypatch):
    elsewhere = with_chapter_8
    options = "--only FOMAML --no-omniglot --seeds 1 --passes 500 --episodes 2 --val 4 --curve 5".split()
    start(monkeypatch, elsewhere, "recipes/league.py", *options)
    files = {p.name: p for p in (elsewhere / "results" / "league").glob("*.json")}
    assert {*files} == {"tuning-FOMAML.json", "glyphs-1shot-FOMAML-0.json", "glyphs-5shot-FOMAML-0.json"}
    one = json.loads(files["glyphs-1shot-FOMAML-0.json"].read_text(encoding="utf-8"))
    how = json.loads(files["tuning-FOMAML.json"].read_text(encoding="utf-8"))
    task = 5 * int(how["setting"][2]) + 25  # "J=1, alpha=0.4"
    assert one["updates"] == 500 // task and one["passes"] == one["updates"] * task
    assert one["curve"][0]["updates"] == 100 // task and len(one["test"]["values"]) == 2
    assert how["val"] == max(t["val"] for t in how["trials"]) and len(how["trials"]) >= 6
    kept, lost = files["glyphs-1shot-FOMAML-0.json"], files["glyphs-5shot-FOMAML-0.json"]
    lost.unlink()
    before = kept.stat().st_mtime_ns
    start(monkeypatch, elsewhere, "recipes/league.py", *options)
    assert lost.exists() and kept.stat().st_mtime_ns == before
    assert not (elsewhere / "results" / "league.json").exists(), "the table is made of all of them"


def test_the_league_puts_every_head_on_one_pretrained_network(with_chapter_8, monkeypatch):
    elsewhere = with_chapter_8
    options = "--only pretrained --no-omniglot --seeds 2 --passes 640 --episodes 3 --val 2".split()
    start(monkeypatch, elsewhere, "recipes/league.py", *options)
    runs = [json.loads((elsewhere / "results" / "league" / f"glyphs-pretrained-{s}.json").read_text(encoding="utf-8"))
            for s in range(2)]
    heads = ["centroid", "linear", "ridge", "fine-tuning"]
    for run in runs:
        assert [*run["heads"]] == heads and run["heads"] == runs[0]["heads"], "seed 0 chooses for all"
        assert {*run["tests"]} == {f"{head}, {shot}-shot" for head in heads for shot in (1, 5)}
        assert run["updates"] in (5, 10) and run["passes"] == 640
    assert runs[0]["tests"] != runs[1]["tests"]


def test_the_leagues_table_is_made_of_its_runs_at_equal_compute(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    from recipes import league

    def read(key):
        return json.loads((ROOT / "results" / "league" / f"{key}.json").read_text(encoding="utf-8"))

    kept = json.loads((ROOT / "results" / "league.json").read_text(encoding="utf-8"))
    made = league.table(read, league.BANKS, kept["config"]["seeds"])
    assert made == kept["settings"] and len(made) == 4
    for setting, rows in made.items():
        assert {row["n"] for row in rows.values()} == {600}
        for name, row in rows.items():
            seeds = 3 if setting.startswith("glyphs") and name != "nearest pixel" else 1
            assert len(row["seeds"]) == seeds and set(row["minus"]) == set(rows)
            assert name == "nearest pixel" or all(62_000 < p <= league.PASSES for p in row["passes"]), (setting, name)


# --- all of them, unattended -------------------------------------------------------------------------------

def test_every_record_has_its_command(committed_records):
    made = {r.record for r in records.RECIPES.values()}
    kept = committed_records - {"published"}  # what papers report, not measured
    assert {name for name in kept if not name.startswith("gpu-")} <= made
    scripts = {f"recipes/{p.name}" for p in (ROOT / "recipes").glob("*.py")} - {"recipes/record.py", "recipes/cost.py"}
    assert scripts == {r.command.split()[0] for r in records.RECIPES.values() if r.command.startswith("recipes/")}
    for name in made & committed_records:  # the same settings as the committed record, less what says how it was run
        recorded = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))["command"].split()[1:]
        (command,) = [r.command.split() for r in records.RECIPES.values() if r.record == name]
        if command[0] != "-m":
            assert {*command[1:]} <= {*recorded[1:]}, name


def test_a_recipe_runs_after_those_whose_files_it_reads():
    names = list(records.RECIPES)
    for name, recipe in records.RECIPES.items():
        assert all(names.index(other) < names.index(name) for other in recipe.needs)
        reads = recipe.command.split("--checkpoint ")[1].split(".pt")[0] if "--checkpoint" in recipe.command else None
        assert reads is None or reads in {records.RECIPES[other].record for other in recipe.needs}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A git repository with three recipes: `b` reads what `a` writes, `slow` waits to be stopped."""
    script = ("import json, pathlib, subprocess, sys\n"
              "name = sys.argv[1]; assert '--force' in sys.argv and '--resume' in sys.argv\n"
              "if pathlib.Path(f'fail-{name}').exists(): sys.exit('no luck')\n"
              "print('running', name)\n"
              "commit = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout.strip()\n"
              "pathlib.Path(f'results/{name}.json').write_text(json.dumps({'commit': commit}))\n")
    (tmp_path / "recipe.py").write_text(script, encoding="utf-8")
    (tmp_path / "results").mkdir()
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setattr(records, "RECIPES", {
        "a": records.Recipe("recipe.py a", "a"), "b": records.Recipe("recipe.py b", "b", ("a",)),
        "c": records.Recipe("recipe.py c", "c")})
    return tmp_path


def git(root, *arguments):
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments], cwd=root, check=True,
                   capture_output=True)


def commit(root):
    with open(root / "code", "a", encoding="utf-8") as code:
        code.write("x")
    git(root, "add", "recipe.py", "code")
    git(root, "commit", "-q", "--allow-empty", "-m", "x")


def make(monkeypatch, capsys, project, *options):
    monkeypatch.setattr(sys, "argv", ["records.py", "--runs", str(project / "runs"), *options])
    status = records.main()
    return status, capsys.readouterr().out


def test_old_records_are_made_again_and_new_ones_are_not(project, monkeypatch, capsys):
    status, out = make(monkeypatch, capsys, project, "--since", "HEAD")
    assert status == 0 and out.count("begins") == 3
    status, out = make(monkeypatch, capsys, project)  # continues: nothing is left
    assert status == 0 and out.splitlines() == ["a: made", "b: made", "c: made"]
    commit(project)
    assert "begins" not in make(monkeypatch, capsys, project)[1], "newer than the commit is new enough"
    assert make(monkeypatch, capsys, project, "--since", "HEAD", "--list")[1].count("to make") == 3
    status, out = make(monkeypatch, capsys, project, "--only", "c")
    assert "c: made in" in out and "a:" not in out
    assert make(monkeypatch, capsys, project)[1].count("begins") == 2


def test_what_fails_is_left_out_with_those_that_need_it_and_made_the_next_time(project, monkeypatch, capsys):
    (project / "fail-a").touch()
    status, out = make(monkeypatch, capsys, project, "--since", "HEAD")
    assert status == 1 and "a: FAILED" in out and "b: left out, because it reads what a writes" in out
    assert "c: made in" in out and "no luck" in (project / "runs" / "a.log").read_text(encoding="utf-8")
    (project / "fail-a").unlink()
    status, out = make(monkeypatch, capsys, project)
    assert status == 0 and "a: made in" in out and "b: made in" in out and "c: made\n" in out


@pytest.mark.parametrize("starts, newer", [
    (["old", "new"], False), (["new", "new"], True), (["unknown"], False), ({}, True)])
def test_a_record_begun_by_older_code_is_old(project, starts, newer):
    first = records.git("rev-parse", "HEAD")
    commit(project)
    now = records.git("rev-parse", "HEAD")
    hashes = [{"old": first, "new": now}.get(s, s) for s in starts] if starts else starts
    (project / "results" / "a.json").write_text(json.dumps({"commit": now, "starts": hashes}), encoding="utf-8")
    assert records.is_newer("a", now) == newer


def test_state_of_older_code_is_not_continued(project, monkeypatch, capsys):
    parts = project / "runs" / "a.ckpt.parts"
    parts.mkdir(parents=True)
    (parts / "parts.json").write_text(json.dumps({"commits": [records.git("rev-parse", "HEAD")]}), encoding="utf-8")
    commit(project)
    _, out = make(monkeypatch, capsys, project, "--since", "HEAD")
    assert "was begun by older code, and is thrown away" in out and not parts.exists()


def test_it_says_what_it_needs_to_know(project, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="--since COMMIT is needed the first time"):
        make(monkeypatch, capsys, project)
    with pytest.raises(SystemExit, match="--since nonsense: this repository has no such commit"):
        make(monkeypatch, capsys, project, "--since", "nonsense")


def test_a_kill_reaches_the_recipe_and_the_next_start_continues(project):
    slow = project / "recipe.py"
    slow.write_text("import pathlib, sys, time\ntry:\n    pathlib.Path('began').touch()\n"
                    "    for _ in range(10**4): time.sleep(0.01)\n"
                    "except KeyboardInterrupt:\n    pathlib.Path('stopped').touch(); sys.exit(130)\n", encoding="utf-8")
    code = ("import sys, pathlib; sys.path.insert(0, sys.argv.pop(1)); from tools import records\n"
            "records.ROOT = pathlib.Path.cwd(); records.RECIPES = {'a': records.Recipe('recipe.py a', 'a')}\n"
            "sys.exit(records.main())\n")
    command = [sys.executable, "-c", code, str(ROOT), "--since", "HEAD", "--runs", "runs", "--only", "a"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    while not (project / "began").exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    output, _ = process.communicate()
    assert (project / "stopped").exists() and "a: stopped; start again to continue" in output
    assert process.returncode == 1 and not Path(project / "results" / "a.json").exists()
