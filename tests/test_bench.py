"""The benchmark counts its arithmetic right, computes the same thing with everybody, and its record is complete."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import gpu, machine, peers, report, rows, worker
from conftest import ROOT

RECORD = ROOT / "results" / "bench-cpu.json"
SMALL = {name: replace(row, tasks=min(row.tasks, 2), way=min(row.way, 3), query=2)
         for name, row in rows.ROWS.items()}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", [n for n, row in SMALL.items() if row.kind != "sine"])
def test_the_formula_counts_the_convolutions_of_a_plain_double_backward(name):
    row = SMALL[name]
    net, episodes = peers.standard_net(row, 4), rows.draw(row)
    with FlopCounterMode(display=False) as counter:
        rows.reference(net, episodes, row)
    counted = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "convolution" in str(op))
    # PyTorch's double backward also returns, for the first convolution, a gradient by the image that nobody asked for.
    unneeded = row.tasks * row.way * row.shot * row.steps * 2 * 9 * 28**2 * 4 if row.order == 2 else 0
    assert rows.flops(row, channels=4) + unneeded == counted


def test_the_first_row_is_20_8_gflop():
    assert rows.flops(rows.ROWS["5-way 1-shot"]) == pytest.approx(20.84e9, rel=1e-3)


@pytest.mark.parametrize("who", ["metalib", *peers.PEERS])
@pytest.mark.parametrize("name", ["5 inner steps", "FOMAML", "ProtoNet, 4 tasks", "sinusoid"])
def test_everybody_computes_the_same_gradient(name, who):
    row = SMALL[name]
    if not peers.takes_part(who, row):
        assert who != "metalib"
        return
    if peers.version(who) is None:
        pytest.skip(f"{who} is not installed (make bench installs it)")
    peers.prepare(who)
    net, episodes = peers.standard_net(row, 8).double(), rows.draw(row).to(torch.float64)
    weights = rows.start(net)
    right = rows.reference(net, episodes, row)
    for channels_last in (False, row.kind != "sine"):
        mine, step = peers.build(who, row, weights, episodes, channels=8, channels_last=channels_last)
        for _ in range(2):  # a second step starts again from the same weights
            step()
        assert rows.error([p.grad for p in mine.parameters()], right) <= 1e-10


def test_the_check_tells_first_from_second_order():
    row = SMALL["5 inner steps"]
    net, episodes = peers.standard_net(row, 8).double(), rows.draw(row).to(torch.float64)
    second, first = (rows.reference(net, episodes, replace(row, order=order)) for order in (2, 1))
    assert rows.error(first, second) > 0.1
    assert rows.error([torch.full_like(g, float("nan")) for g in first], second) == float("inf")


@pytest.mark.parametrize("name", ["5-way 1-shot", "ProtoNet, 4 tasks", "sinusoid"])
def test_the_float32_errors_are_those_of_several_seeds(name, tmp_path):
    row, file = SMALL[name], tmp_path / "row.pt"
    worker.solve(row, file)
    answer = worker.check("metalib", row, file, False)
    assert answer["exact"] <= 1e-10 and len(set(answer["errors"])) == len(worker.SEEDS)
    assert all(1e-9 < error < 0.01 for error in answer["errors"]), "float32 was asked for"


def test_the_tables_show_the_median_error():
    assert report.float32_error({"error": 1.0, "errors": [1e-6, 1e-3, 2e-6]}) == 2e-6
    assert report.float32_error({"error": 1e-4}) == 1e-4


def test_the_ratios_are_those_of_the_medians():
    def times(ms):
        return {"ms": ms, "one_thread_ms": 2 * ms, "one_thread_peak_mb": ms}

    result = {"gflop": 10.0, "results": {"metalib": times(100.0) | {"busy_ms": 150.0}, "higher": times(300.0),
                                         "torch.func": times(200.0)}}
    report.compare(result, peak=200.0)
    assert (result["fastest_peer"], result["speedup_peer"]) == ("torch.func", 2.0)
    assert (result["fastest_library"], result["speedup_library"]) == ("higher", 3.0)
    assert result["results"]["metalib"]["fraction_of_peak"] == 0.5
    assert result["results"]["metalib"]["busy_over_quiet"] == 1.5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_another_process_s_work_is_counted_as_ours_only_if_we_say_so():
    with subprocess.Popen([sys.executable, "-c", "x = 0\nwhile True: x += 1"]) as process:
        try:
            before, alone = machine.Usage.now([process.pid]), machine.Usage.now([])
            began = machine.processor_seconds(process.pid)
            while (spent := machine.processor_seconds(process.pid) - began) < 0.5:  # however long that takes
                pass
            now_alone, now = machine.Usage.now([]), machine.Usage.now([process.pid])
        finally:
            process.kill()
    ours, mine = now.own - before.own, now_alone.own - alone.own
    assert ours >= mine + spent - 4 / machine.TICK  # four counters, rounded down
    assert 0 < now.since(before)["own"] <= 1 + 0.1  # of all the processors; they are counted in ticks


PEAK = """
import torch
from bench import machine
small = torch.ones(2**20)
memory = machine.PeakMemory()
big = torch.ones(16 * 2**20)  # 64 MiB
del big
print(memory.read())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_what_was_held_at_most():
    # In a process of its own: where the mark may not be set back, it counts from the start.
    run = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert 60 < float(run.stdout) < 128, run.stderr  # megabytes: all of it, and no second copy


def test_the_gpu_script_measures_every_variant_and_its_error():
    args = gpu.parse(["--device", "cpu", "--tiny", "--cosine", "0"])
    row = rows.Row(query=args.query, tasks=args.tasks[0], steps=args.steps[0])
    results = gpu.measure(row, args.channels[0], args)["results"]
    assert set(results) == {f"{how} {precision}" for how in gpu.MAPS for precision in gpu.PRECISIONS}
    assert not [r["failed"] for r in results.values() if "failed" in r]
    for how in gpu.MAPS:
        right, coarse = results[f"{how} float32"], results[f"{how} bf16"]
        assert right["error"] < 0.05 and right["cosine"] > 0.99 and right["ms"] > 0
        assert coarse["error"] > 10 * right["error"], "bfloat16 was asked for"


def test_the_gpu_script_times_no_gradient_that_points_elsewhere(monkeypatch):
    def wrong(learner, episodes, map, **_):
        for p in learner.parameters():
            p.grad = torch.full_like(p, float("nan") if map == "loop" else 1.0)

    monkeypatch.setattr(gpu, "meta_gradient", wrong)
    args = gpu.parse(["--device", "cpu", "--tiny"])
    results = gpu.measure(rows.Row(query=2, tasks=2, steps=1), 8, args)["results"]
    assert all(r["dropped"] == "cosine below 0.99" and "ms" not in r and "error" in r for r in results.values())
    cell = {"channels": 8, "tasks": 2, "steps": 1, "results": results}
    assert gpu.suggest([cell]) == {"text": "nothing ran in float32: no rule", "fastest": {}, "chunk": {}}


def test_the_gpu_script_asks_for_the_driver_and_measures_two_widths(monkeypatch):
    def answer(*_, **__):
        return subprocess.CompletedProcess([], 0, stdout="550.54.14\n550.54.14\n")

    monkeypatch.setattr(subprocess, "run", answer)
    assert gpu.driver() == "550.54.14"

    def absent(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", absent)
    assert gpu.driver() is None
    assert len(gpu.parse(["--device", "cpu"]).channels) == 2


def test_the_gpu_script_suggests_what_it_measured():
    def cell(T, J, loop, vmap, C=64):
        return {"channels": C, "tasks": T, "steps": J, "results": {
            "loop float32": {"ms": loop}, "vmap float32": {"ms": vmap} if vmap else {"failed": "out of memory"}}}

    always = gpu.suggest([cell(4, 1, 30.0, 10.0), cell(16, 1, 120.0, 20.0)])
    assert always["text"] == 'map="auto" should be "vmap" for convolutions on this device'
    assert always["chunk"] == {"C=64 J=1": 16}
    mixed = gpu.suggest([cell(4, 1, 30.0, 10.0), cell(64, 5, 500.0, None)])
    assert "C=64 T=4 J=1: vmap, C=64 T=64 J=5: loop" in mixed["text"] and mixed["chunk"] == {"C=64 J=1": 4}
    wide = gpu.suggest([cell(4, 1, 30.0, 10.0), cell(4, 1, 90.0, 100.0, C=128)])
    assert "C=64 T=4 J=1: vmap, C=128 T=4 J=1: loop" in wide["text"]


def test_the_gpu_script_says_why_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        gpu.parse([])


def test_the_record_has_what_the_book_draws():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for key in ("command", "commit", "date", "device", "cores", "rounds", "quick", "disturbed", "machine",
                "matrix_gflops", "versions", "rows", "sampling"):
        assert key in record, key
    assert set(record["versions"]) == {"metalib", *peers.PEERS}
    assert list(record["rows"]) == list(rows.ROWS)
    for name, row in record["rows"].items():
        assert {k: row[k] for k in rows.ROWS[name].settings()} == rows.ROWS[name].settings(), name
        assert row["gflop"] == rows.flops(rows.ROWS[name]) / 1e9
        assert "metalib" in row["results"] and row["fastest_peer"] in row["results"]
        for who, result in row["results"].items():
            assert result["error"] <= row["check"]["tolerance"], (name, who)
            assert result.get("exact", 0.0) <= 1e-9, (name, who)
            assert len(result["ms_all"]) == record["rounds"] and min(result["ms_all"]) > 0
            assert result["one_thread_ms"] > 0 and result["one_thread_peak_mb"] > 0, (name, who)
    main = record["rows"]["5-way 1-shot"]["results"]
    assert "metalib, stock allocator" in main and all(r["busy_over_quiet"] > 0 for r in main.values())
    assert record["quick"] or record["rounds"] >= 5, "a published median is over at least 5"


def test_the_readme_shows_the_record():
    record, readme = json.loads(RECORD.read_text(encoding="utf-8")), (ROOT / "README.md").read_text(encoding="utf-8")
    first, last = report.MARKS
    assert readme.split(first)[1].split(last)[0].strip() == report.markdown(record)
