"""An environment of 74 packages beside uv, and the slug of it beside tar and zstd. All files are fetched before anything is
measured: uv's are in its cache, unpacked, and pipe's in its store."""

import os
import shutil
import time
from itertools import count
from pathlib import Path

from bench import REPOSITORY, Bench, copied, emptied, output
from row import AtMost, Case, Row, row

REQUIREMENTS = REPOSITORY / "tests/bench/requirements.txt"
PYTHON = "3.11"
# Whatever is the same in two rounds is known to the second one, of an earlier run of the benchmarks too.
ROUNDS = count(int(time.time()) % 1_000_000)

PIPELINE = """
[app]
name = "packaged"
python = "{python}"

[source]
path = "project"

[steps.lock]
plugin = "python-lock"
inputs = {{ project = "source" }}

[steps.venv]
plugin = "python-venv"
inputs = {{ lock = "lock" }}
config = {{ bytecode = false }}
grants = {{ fetch = ["index"], exec = ["python"] }}
limits = {{ memory = "{memory}MiB" }}
"""
# A step's memory is part of its key, and the environment's own step runs anew with another.
MEMORY = 1024

USE = """
[steps.use]
plugin = "command"
inputs = {{ venv = "venv" }}
config = {{ run = ["true"], environment = {{ ROUND = "{round}" }} }}
grants = {{ exec = ["true"] }}
"""

SLUG = """
[steps.slug]
plugin = "slug"
inputs = { project = "source", venv = "venv" }
config = { processes = { web = "python -m http.server" } }
"""


class Environment:
    """A project that is little more than its requirements, and a home of pipe's that has all of their files."""

    def __init__(self, bench: Bench) -> None:
        self.root = bench.directory("work/environment")
        self.env = bench.home("environment")
        self.home = Path(self.env["PIPE_HOME"])
        self.command = [str(bench.pipe), "run", "--no-release", "environment.pipeline"]
        project = self.root / "project"
        project.mkdir(exist_ok=True)
        shutil.copy(REQUIREMENTS, project / "requirements.txt")
        self.view = project / "views.py"
        self.view.write_text("VIEW = 0\n")
        self.uv = bench.from_pypi("uv")
        self.venv = self.root / "uv-environment"
        self.write(PIPELINE, USE)
        self.run()

    def write(self, *parts: str, memory: int = MEMORY) -> None:
        text = "".join(parts[:-1]) + parts[-1]
        values = {"python": PYTHON, "memory": memory, "round": next(ROUNDS)}
        (self.root / "environment.pipeline").write_text(text.format(**values))

    def run(self) -> str:
        return output(self.command, self.root, self.env)

    def pipe(self, prepare) -> Case:
        return Case("pipe", self.command, self.root, self.env, prepare)

    def by_uv(self) -> Case:
        sync = f'"{self.uv}" pip sync -q --python "$0" project/requirements.txt'
        script = f'"{self.uv}" venv -q --python {PYTHON} "$0" && {sync}'
        case = Case("uv", ["sh", "-c", script, str(self.venv)], self.root, prepare=lambda: emptied(self.venv))
        case.prepare()
        output(case.command, case.cwd)
        return case


@row("environment of 74 packages: its tree alone")
def tree(bench: Bench) -> Row:
    environment = Environment(bench)

    def anew() -> None:
        environment.write(PIPELINE, memory=MEMORY + next(ROUNDS))

    return Row([environment.pipe(anew), environment.by_uv()], [AtMost(0.1, "uv")])


@row("environment of 74 packages: laid out, for a program to run in")
def laid_out(bench: Bench) -> Row:
    environment = Environment(bench)

    def anew() -> None:
        emptied(environment.home / "store/pool/trees")
        (environment.home / "store/pool/trees").mkdir()
        environment.write(PIPELINE, USE, memory=MEMORY + next(ROUNDS))

    return Row([environment.pipe(anew), environment.by_uv()], [AtMost(0.5, "uv")])


class Packed(Environment):
    """The slug of the environment, in a home that has never packed one."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.program = str(bench.pipe)
        self.file = self.root / "slug.tar.zst"
        # Of a slug like this uv's environment is all but the project.
        self.peer = self.by_uv()

    def build(self, home: Path) -> None:
        """Builds the slug in a home, whose pipeline has no other step to run."""
        (self.root / "environment.pipeline").write_text(PIPELINE.format(python=PYTHON, memory=MEMORY) + SLUG)
        output(self.command, self.root, {"PIPE_HOME": str(home)})

    def export(self, home: Path, prepare) -> Case:
        script = 'export PIPE_HOME="$1"; "$0" slug export "$("$0" slug list | head -n 1 | cut -d " " -f 1)" --output "$2"'
        command = ["sh", "-c", script, self.program, str(home), str(self.file)]
        return Case("pipe", command, self.root, prepare=prepare, slow=True)

    def by_tar(self) -> Case:
        script = 'tar -c "$0" | zstd -q -f -T0 -3 -o peer.tar.zst'
        return Case("tar | zstd -T0 -3", ["sh", "-c", script, self.venv.name], self.root, slow=True)


@row("slug of 74 packages, packed for the first time")
def packed(bench: Bench) -> Row:
    slug = Packed(bench)
    copy = bench.directory("homes/environment-copy")

    def anew() -> None:
        copied(slug.home, copy)
        slug.build(copy)
        os.sync()

    return Row([slug.export(copy, anew), slug.by_tar()], [AtMost(1, "tar | zstd -T0 -3")])


@row("slug of 74 packages, packed again after a change of one line")
def packed_again(bench: Bench) -> Row:
    slug = Packed(bench)
    copy = bench.directory("homes/environment-packed")
    copied(slug.home, copy)
    slug.build(copy)
    first = slug.export(copy, lambda: None)
    output(first.command, first.cwd)

    def edit() -> None:
        slug.view.write_text(f"VIEW = {next(ROUNDS)}\n")
        slug.build(copy)
        os.sync()

    return Row([slug.export(copy, edit), slug.by_tar()])
