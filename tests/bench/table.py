"""Shows figures: one block a row, with medians, ratios and whether the bars are reached."""

import os
import platform
import statistics
from pathlib import Path

from bench import Bench
from measure import Figures
from row import Row


def machine(bench: Bench) -> str:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "?")
    load = os.getloadavg()[0]
    busy = f"; BUSY: load {load:.1f}" if load > 0.7 else ""
    return f"{model}, {os.cpu_count()} processors, Linux {platform.release()}, {bench.file_system()}{busy}\n"


def print_row(name: str, row: Row, figures: dict[str, Figures]) -> int:
    """Prints a row and gives how many bars were missed."""
    medians = {case: statistics.median(getattr(found, row.of)) for case, found in figures.items()}
    own = next(iter(medians.values()))
    print(name)
    for case, median in medians.items():
        values = getattr(figures[case], row.of)
        spread = f"{shown(min(values), row.of)} – {shown(max(values), row.of)}"
        ratio = f"{own / median:6.2f} ×" if case != next(iter(medians)) else ""
        print(f"  {case:24} {shown(median, row.of):>10}  {ratio:9} ({spread}, {len(values)} runs)")
    missed = 0
    for bar in row.bars:
        if bar.peer is not None and bar.peer not in medians:
            continue
        limit = bar.limit if bar.peer is None else bar.limit * medians[bar.peer] + bar.more
        reached = own <= limit
        missed += not reached
        more = f" and {shown(bar.more, row.of)}" if bar.more else ""
        what = "" if bar.peer is None else f", {bar.limit:.3g} × {bar.peer}{more}"
        print(f"  {'reached' if reached else 'MISSED '} bar: at most {shown(limit, row.of)}{what}")
    print(flush=True)
    return missed


def shown(value: float, of: str) -> str:
    if of == "memory":
        return f"{value / 1e6:.1f} MB"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"
