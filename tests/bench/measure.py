"""Runs cases in turn (A B C, A B C, …), so that whatever else the machine does hits all of them alike."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from row import Case

SLOW_ROUNDS = 3


@dataclass
class Figures:
    """All that was measured of a case."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def measure(cases: Sequence[Case], rounds: int) -> dict[str, Figures]:
    figures = {case.name: Figures() for case in cases}
    for number in range(rounds):
        for case in cases:
            if case.slow and number >= SLOW_ROUNDS:
                continue
            case.prepare()
            seconds, memory = run(case)
            figures[case.name].seconds.append(seconds / case.times)
            figures[case.name].memory.append(memory)
    return figures


def run(case: Case) -> tuple[float, float]:
    """What it tells; or else the seconds of the wall clock, and the largest resident set of a process of it in bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(
        case.command,
        cwd=case.cwd,
        env={**os.environ, **case.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if case.told else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    output, errors = (stream.read() if stream else b"" for stream in (process.stdout, process.stderr))
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in case.exit_codes:
        sys.exit(f"{' '.join(case.command)} (in {case.cwd}) ended with {process.returncode}:\n{errors.decode()}")
    if case.told:
        told = case.told(output.decode())
        return told, told
    return seconds, usage.ru_maxrss * 1024
