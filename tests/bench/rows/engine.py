"""The engine beside ninja, turbo and moon: what a run costs when nothing, one thing or everything has changed."""

from pathlib import Path

from bench import Bench, emptied
from measure import run
from project import Hundred, hundred, ten_thousand
from row import AtMost, Case, Row, row

QUIET = {"TURBO_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1", "MOON_TOOLCHAIN_FORCE_GLOBALS": "true", "CI": "1"}


def pipe(bench: Bench, pipeline: Path, home: str, name: str = "pipe") -> Case:
    command = [str(bench.pipe), "run", "--no-release", pipeline.name]
    return Case(name, command, pipeline.parent, bench.home(home))


def ninja(bench: Bench, project: Path) -> Case:
    return Case("ninja", [bench.from_pypi("ninja"), "--quiet"], project)


def turbo(bench: Bench, project: Path) -> Case:
    return Case("turbo", [bench.from_npm("turbo"), "run", "build"], project, QUIET, slow=True)


def moon(bench: Bench, project: Path) -> Case:
    return Case("moon", [bench.from_npm("moon", "@moonrepo/cli"), "run", ":build"], project, QUIET, slow=True)


def prepared(case: Case, prepare) -> Case:
    return Case(**{**case.__dict__, "prepare": prepare})


def warm(*cases: Case) -> list[Case]:
    """Cases that have all been run, twice: what the first run left unsettled, the second has looked at again."""
    for case in cases:
        case.prepare()
        run(case)
        run(case)
    return list(cases)


def all_of(bench: Bench, project: Hundred, pipeline: str = "wasm") -> list[Case]:
    own = pipe(bench, project.root / f"{pipeline}.pipeline", f"hundred-{project.files}-{pipeline}")
    return [own, ninja(bench, project.root), turbo(bench, project.root), moon(bench, project.root)]


def cold(bench: Bench, project: Hundred, pipeline: str) -> list[Case]:
    """No result is known to anyone; compiled plugins, like the peers' own programs, are there."""
    own, by_ninja, by_turbo, by_moon = all_of(bench, project, pipeline)
    run(own)
    root, home = project.root, Path(own.env["PIPE_HOME"])
    outputs = project.outputs()
    return [
        prepared(own, lambda: emptied(home / "store")),
        prepared(by_ninja, lambda: emptied(root / "ninja", root / ".ninja_log", root / ".ninja_deps")),
        prepared(by_turbo, lambda: emptied(root / ".turbo", root / "node_modules", *outputs)),
        prepared(by_moon, lambda: emptied(root / ".moon/cache", *outputs)),
    ]


@row("nothing changed: 100 steps in chains of ten, 10,000 files")
def nothing_changed(bench: Bench) -> Row:
    cases = warm(*all_of(bench, hundred(bench)))
    return Row(cases, [AtMost(1, "ninja"), AtMost(0.1, "turbo")])


@row("one of the 10,000 files changed, in the middle of a chain")
def one_file_changed(bench: Bench) -> Row:
    project = hundred(bench)
    cases = [prepared(case, project.edit) for case in warm(*all_of(bench, project))]
    return Row(cases, [AtMost(1.5, "ninja")])


@row("cold, as Wasm steps: the same 100 steps")
def cold_wasm(bench: Bench) -> Row:
    return Row(cold(bench, hundred(bench), "wasm"), [AtMost(1, "ninja"), AtMost(1 / 20, "turbo")])


@row("cold, as sandboxed commands: the same 100 steps")
def cold_commands(bench: Bench) -> Row:
    return Row(cold(bench, hundred(bench), "commands"), [AtMost(2, "ninja"), AtMost(1 / 20, "turbo")])


@row("10,000 trivial Wasm steps, cold, a step; fork and exec of /bin/true")
def trivial_cold(bench: Bench) -> Row:
    own = trivial(bench)
    spawn = "import os\nfor _ in range(1000): os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)"
    true = Case("fork + exec /bin/true", ["python3", "-c", spawn], own.cwd, times=1000)
    own = Case(**{**own.__dict__, "times": 10_000, "prepare": lambda: emptied(Path(own.env["PIPE_HOME"]) / "store")})
    return Row([own, true], [AtMost(1e-3), AtMost(1, true.name)])


@row("10,000 steps, nothing changed")
def trivial_unchanged(bench: Bench) -> Row:
    own = trivial(bench)
    return Row(warm(own, ninja(bench, own.cwd)), [AtMost(0.1)])


def trivial(bench: Bench) -> Case:
    return pipe(bench, ten_thousand(bench) / "trivial.pipeline", "trivial")


@row("peak memory of a cold run over 10,000 files")
def memory(bench: Bench) -> Row:
    own, by_ninja, *_ = cold(bench, hundred(bench), "wasm")
    return Row([own, by_ninja], [AtMost(100e6)], of="memory")


@row("start: --version")
def start(bench: Bench) -> Row:
    here = bench.directory("work")
    peers = [bench.from_pypi("ninja"), str(bench.pipe)]
    by_ninja, own = (Case(Path(program).name, [program, "--version"], here) for program in peers)
    return Row([own, by_ninja], [AtMost(5e-3)])


def curve(files: int, what: str) -> None:
    @row(f"curve: {what} changed, 100 steps over {files:,} files")
    def build(bench: Bench) -> Row:
        project = hundred(bench, files)
        by_pipe, by_ninja, *_ = all_of(bench, project)
        cases = warm(by_pipe, by_ninja)
        return Row([prepared(case, project.edit) for case in cases] if what == "one file" else cases)


for many in (1_000, 3_000, 10_000, 30_000, 100_000):
    curve(many, "nothing")
for many in (1_000, 10_000, 100_000):
    curve(many, "one file")
