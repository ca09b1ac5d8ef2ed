"""What the benchmark's times mean: ratios to the fastest peer and to the matrix peak, and the table that is printed."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import BUSY, CORES, disturbed
from bench.peers import LIBRARIES, PEERS
from recipes.record import write_whole


def compare(result: dict[str, Any], peak: float) -> None:
    """Add the ratios: to the fastest peer and the fastest library, to the matrix peak, busy to quiet."""
    results = result["results"]
    peers = {n: r for n, r in results.items() if n in PEERS}
    for r in results.values():
        r["fraction_of_peak"] = round(result["gflop"] / r["ms"] * 1e3 / peak, 4) if result["gflop"] else None
        if "busy_ms" in r:
            r["busy_over_quiet"] = round(r["busy_ms"] / r["ms"], 3)
    for kind, names in (("peer", peers), ("library", [n for n in peers if n in LIBRARIES])):
        for prefix in ("", "one_thread_"):
            fastest = min(names, key=lambda n: peers[n][f"{prefix}ms"], default=None)
            result[f"{prefix}fastest_{kind}"] = fastest
            result[f"{prefix}speedup_{kind}"] = fastest and round(
                peers[fastest][f"{prefix}ms"] / results["metalib"][f"{prefix}ms"], 3)
    result["leanest_peer"] = min(peers, key=lambda n: peers[n]["one_thread_peak_mb"], default=None)


def report(rows: dict[str, Any], sampling: dict[str, Any], peaks: list[float], machine: dict[str, float]) -> None:
    """The table, as plain text."""
    print(f"\n{CORES} processors, matrix peak {max(peaks):.0f} GFLOP/s (measured {min(peaks):.0f} to {max(peaks):.0f})")
    print(f"others used {machine['others']:.0%} of the machine, the host took {machine['stolen']:.0%}: "
          + ("DISTURBED, do not publish these times" if disturbed(machine) else f"quiet (below {BUSY:.0%})"))
    for name, result in rows.items():
        peer = result["fastest_peer"]
        print(f"\n{name}: {result['gflop']:.1f} GFLOP; metalib is " + ", ".join(
            f"{result[f'speedup_{kind}']}x {result[f'fastest_{kind}']} (one thread: "
            f"{result[f'one_thread_speedup_{kind}']}x)" for kind in ("peer", "library") if result[f"fastest_{kind}"]))
        print(f"  {'':26}{'ms':>9}{'min':>9}{'max':>9}{'x peer':>8}{'peak':>6}{'1 thread':>10}{'MB':>7}{'busy':>6}"
              f"{'float64':>9}{'float32':>9}  setting")
        for who, r in result["results"].items():
            share = f"{r['fraction_of_peak']:.0%}" if r["fraction_of_peak"] else ""
            best = result["results"][peer]["ms"] / r["ms"] if peer else float("nan")
            setting = f"{r['setting']['threads']} threads" + ", channels_last" * r["setting"]["channels_last"]
            print(f"  {who:26}{r['ms']:9.2f}{min(r['ms_all']):9.2f}{max(r['ms_all']):9.2f}{best:8.2f}{share:>6}"
                  f"{r['one_thread_ms']:10.2f}{r['one_thread_peak_mb']:7.0f}{r.get('busy_over_quiet', ''):>6}"
                  f"{r.get('exact', float('nan')):9.0e}{float32_error(r):9.0e}  {setting}")
    print("\nepisodes per processor-second, with rotations:")
    for who, rates in sampling.items():
        print(f"  {who:26}" + ", ".join(f"{r['per_cpu_second']:,.0f} ({r['n']} a call)" for r in rates))


def float32_error(result: dict[str, Any]) -> float:
    """The median error of an implementation's float32 gradient: over seeds, or of the batch that was timed."""
    return median(result.get("errors", [result["error"]]))


MARKS = "<!-- from results/bench-cpu.json: python -m bench writes this table -->", "<!-- end of the table -->"


def markdown(record: dict[str, Any]) -> str:
    """The README's table: metalib beside the fastest meta-learning library of each row, or the fastest peer."""
    lines = ["| one meta-step | metalib | fastest library | times as fast | float32 error, and the library's | "
             "of the matrix peak | memory, one thread |", "|:--|--:|--:|--:|--:|--:|--:|"]
    plain = []  # rows in which PyTorch without a library was faster than all of them
    for name, row in record["rows"].items():
        kind = "library" if row["fastest_library"] else "peer"
        mine, peer = row["results"]["metalib"], row[f"fastest_{kind}"]
        if (own := row["fastest_peer"]) != peer:
            plain.append(f"{row['results'][own]['ms']:.1f} ms ({own}) for {name}")
        share = f"{mine['fraction_of_peak']:.0%}" if mine["fraction_of_peak"] else ""
        lean = row["results"][row["leanest_peer"]]["one_thread_peak_mb"]
        wrong = ", ".join(f"{float32_error(r):.0e}" for r in (mine, row["results"][peer]))
        lines.append(f"| {name} | {mine['ms']:.1f} ms | {row['results'][peer]['ms']:.1f} ms, {peer} | "
                     f"{row[f'speedup_{kind}']:.2f} | {wrong} | {share} | {mine['one_thread_peak_mb']:.0f} MB, "
                     f"leanest peer {lean:.0f} |")
        if (compiled := row["results"].get("metalib, compiled")) is not None:
            lines.append(f"| {name}, `compile=True` | {compiled['ms']:.1f} ms | | "
                         f"{row['results'][peer]['ms'] / compiled['ms']:.2f} | {float32_error(compiled):.0e} | | |")
    lines += ["", f"Medians of {record['rounds']} steps on {record['cores']} cores ({record['device']}, torch "
              f"{record['torch']}, {record['date']}), all implementations taking turns"
              + ("; **the machine was busy with other work**." if record["disturbed"] else ".")
              + (f" Written by hand with `torch.func`, without a library: {'; '.join(plain)}." if plain else "")]
    return "\n".join(lines)


def update(readme: Path, record: dict[str, Any]) -> None:
    """Put the table between its marks in the README."""
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    write_whole(readme, f"{before}{MARKS[0]}\n{markdown(record)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
