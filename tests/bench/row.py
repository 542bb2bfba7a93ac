"""What is measured: rows of cases, and the bars that they are held against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One command, by whoever's name it is shown; the first of a row is pipe's."""

    name: str
    command: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    # What brings everything into the state that the command is measured in; not measured.
    prepare: Callable[[], None] = lambda: None
    # What is divided by, where one command does many things.
    times: int = 1
    # Takes part in the first three rounds only.
    slow: bool = False
    # Exit codes that are no failure.
    exit_codes: Sequence[int] = (0,)
    # Where the command itself measures: reads the figure out of what it writes.
    told: Callable[[str], float] | None = None


@dataclass(frozen=True)
class AtMost:
    """Pipe's figure is at most so many times a peer's, and so much more; or, without a peer, at most so much."""

    limit: float
    peer: str | None = None
    more: float = 0


@dataclass(frozen=True)
class Row:
    cases: Sequence[Case]
    bars: Sequence[AtMost] = ()
    # What is compared: "seconds" (wall clock) or "memory" (peak resident set, in bytes).
    of: str = "seconds"


ROWS: dict[str, Callable] = {}


def row(name: str) -> Callable:
    """Marks a function that gives the `Row` of this name."""

    def register(build: Callable) -> Callable:
        ROWS[name] = build
        return build

    return register
