"""Releases of the example on this machine, against bars of their own: nobody beside it does the same."""

import atexit
import re
import resource
import shutil
import sys
from functools import cache
from pathlib import Path

from bench import REPOSITORY, Bench, emptied, output
from row import AtMost, Case, Row, row

APART = str(Path(__file__).parents[1] / "apart.py")
# Without the application's release commands, which are `manage.py migrate`, and without its start up to the first page.
COMMANDS_AND_START = ("release-phase", "starting")


@cache
def example(bench: Bench) -> tuple[Path, dict[str, str]]:
    """The example, whose two targets run it, on addresses that are free."""
    root, env = bench.directory("work/released"), bench.home("released")
    emptied(root, Path(env["PIPE_HOME"]))
    shutil.copytree(REPOSITORY / "pipelines/polls", bench.directory("work/released") / "polls")
    pipeline = (REPOSITORY / "pipelines/release.pipeline").read_text()
    (root / "release.pipeline").write_text(re.sub(r"(?m)^address = .*\n", "", pipeline))
    atexit.register(output, [str(bench.pipe), "stop", "--all"], root, env)
    output([str(bench.pipe), "run"], root, env)
    output([str(bench.pipe), "promote", "staging", "production"], root, env)
    return root, env


def edit(bench: Bench) -> None:
    root, _ = example(bench)
    with (root / "polls/polls/views.py").open("a") as view:
        view.write("# one more line\n")


def released(bench: Bench) -> None:
    """Staging runs what production does not."""
    root, env = example(bench)
    edit(bench)
    output([str(bench.pipe), "run"], root, env)


def case(bench: Bench, stages: tuple[str, ...], *words: str, prepare) -> Case:
    root, env = example(bench)
    command = [sys.executable, APART, ",".join(stages), str(bench.pipe), *words, "--json"]
    return Case("pipe", command, root, env, prepare=lambda: prepare(bench), told=float)


@row("release: one line changed, from `pipe run` to the new version's answer, but for the application's start")
def changed(bench: Bench) -> Row:
    return Row([case(bench, ("starting",), "run", prepare=edit)], [AtMost(2)])


@row("release: promote, but for release commands and the application's start")
def promoted(bench: Bench) -> Row:
    return Row([case(bench, COMMANDS_AND_START, "promote", "staging", "production", prepare=released)], [AtMost(0.5)])


@row("release: rollback, but for the application's start")
def rolled_back(bench: Bench) -> Row:
    return Row([case(bench, ("starting",), "rollback", "staging", prepare=released)], [AtMost(0.5)])


@row("memory of the agent with ten processes")
def memory(bench: Bench) -> Row:
    root, env = example(bench)
    output([str(bench.pipe), "scale", "staging", "web=9"], root, env)
    return Row([Case("pipe", ["true"], root, env, told=lambda _: resident(env["PIPE_HOME"]))], [AtMost(60e6)], of="memory")


def resident(home: str) -> int:
    """The bytes in memory of the agent of a home and of the process that sees to it."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:2] in ([b"agent"], [b"agent-serve"]) and f"PIPE_HOME={home}".encode() in (process / "environ").read_bytes():
                total += int((process / "statm").read_text().split()[1]) * resource.getpagesize()
        except OSError:
            # It has ended, or it is somebody else's.
            continue
    return total
