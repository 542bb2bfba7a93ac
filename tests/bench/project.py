"""Projects to measure on, with the files that pipe and each peer want: the same work, told to each in its own words."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench import Bench

CHAIN = 10
# What one file holds: enough to be a file, little enough that work is what a runner makes of it.
LINES = 50


@dataclass(frozen=True)
class Hundred:
    """A hundred steps in chains of ten; each concatenates its share of the files behind what the step before it gave."""

    root: Path
    files: int
    steps: int = 100

    @property
    def share(self) -> int:
        return self.files // self.steps

    def file(self, step: int, number: int) -> Path:
        return self.root / f"packages/p{step}/src/f{number:04}.txt"

    def edit(self) -> None:
        """Changes one file, in the middle of a chain."""
        self.file(self.steps // 2 + CHAIN // 2, self.share // 2).write_text(f"{time.time_ns()}\n")

    def outputs(self) -> list[Path]:
        return [self.root / f"packages/p{step}/out" for step in range(self.steps)]


def before(step: int) -> int | None:
    """The step that one takes in; none at the head of a chain."""
    return step - 1 if step % CHAIN else None


def hundred(bench: Bench, files: int = 10_000) -> Hundred:
    """The project; written once, and settled when it is given."""
    project = Hundred(bench.directory(f"work/hundred-{files}"), files)
    if (project.root / ".git").exists():
        return project
    for step in range(project.steps):
        source = project.root / f"packages/p{step}/src"
        source.mkdir(parents=True, exist_ok=True)
        for number in range(project.share):
            project.file(step, number).write_text(f"{step} {number}\n" * LINES)
    write_ninja(project)
    write_turbo(project)
    write_moon(project)
    write_pipe(project, bench)
    ignored = ["out", "node_modules", ".turbo", ".moon/cache", ".ninja_*", "*.pipeline"]
    (project.root / ".gitignore").write_text("\n".join(ignored) + "\n")
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=project.root, check=True)
    os.sync()
    # Past the time in which another write could leave the same times, for all who look at times.
    time.sleep(3)
    return project


def write_ninja(project: Hundred) -> None:
    text = ["rule cat\n  command = cat $in > $out\n"]
    for step in range(project.steps):
        files = [f"packages/p{step}/src/f{number:04}.txt" for number in range(project.share)]
        earlier = [] if before(step) is None else [f"ninja/p{before(step)}"]
        text.append(f"build ninja/p{step}: cat {' '.join(earlier + files)}\n")
    (project.root / "build.ninja").write_text("".join(text))


def write_turbo(project: Hundred) -> None:
    root = {"name": "mono", "private": True, "workspaces": ["packages/*"], "packageManager": "npm@11.0.0"}
    task = {"dependsOn": ["^build"], "inputs": ["src/**"], "outputs": ["out/**"]}
    (project.root / "package.json").write_text(json.dumps(root))
    (project.root / "turbo.json").write_text(json.dumps({"tasks": {"build": task}}))
    for step in range(project.steps):
        earlier = before(step)
        package = {
            "name": f"p{step}",
            "version": "1.0.0",
            "scripts": {"build": shell(step)},
            "dependencies": {} if earlier is None else {f"p{earlier}": "*"},
        }
        (project.root / f"packages/p{step}/package.json").write_text(json.dumps(package))


def write_moon(project: Hundred) -> None:
    settings = project.root / ".moon"
    settings.mkdir(exist_ok=True)
    (settings / "workspace.yml").write_text("projects: ['packages/*']\nvcs:\n  defaultBranch: main\n")
    (settings / "toolchain.yml").write_text("{}\n")
    for step in range(project.steps):
        earlier = before(step)
        needs = "" if earlier is None else f"dependsOn: ['p{earlier}']\n"
        deps = "" if earlier is None else "    deps: ['^:build']\n"
        task = (
            "tasks:\n  build:\n"
            f"    command: 'sh -c \"{shell(step)}\"'\n"
            f"    inputs: ['src/**/*']\n    outputs: ['out/o']\n{deps}    options: {{runInCI: true}}\n"
        )
        (project.root / f"packages/p{step}/moon.yml").write_text(needs + task)


def shell(step: int) -> str:
    """What a package's task runs, in its directory."""
    earlier = "" if before(step) is None else f"../p{before(step)}/out/o "
    return f"mkdir -p out && cat {earlier}src/* > out/o"


def write_pipe(project: Hundred, bench: Bench) -> None:
    head = '[app]\nname = "hundred"\n\n[source]\nexclude = ["/ninja", "/*.ninja"]\n'
    wasm, commands = [head], [head]
    for step in range(project.steps):
        earlier = before(step)
        inputs = 'project = "source"' + ("" if earlier is None else f', before = "p{earlier}"')
        wasm.append(
            f'\n[steps.p{step}]\nplugin = "{bench.test_step("concat")}"\ninputs = {{ {inputs} }}\n'
            f'config = {{ from = "packages/p{step}/src" }}\n'
        )
        inputs = 'project = "source"' + ("" if earlier is None else f', trees = "p{earlier}"')
        mounts = "" if earlier is None else ', mounts = ["/before"]'
        first = "" if earlier is None else "/before/o "
        commands.append(
            f'\n[steps.p{step}]\nplugin = "command"\ninputs = {{ {inputs} }}\ngrants = {{ exec = ["sh"] }}\n'
            f'config = {{ run = "cat {first}packages/p{step}/src/* > o", collect = "o", '
            f'include = ["packages/p{step}/src"]{mounts} }}\n'
        )
    (project.root / "wasm.pipeline").write_text("".join(wasm))
    (project.root / "commands.pipeline").write_text("".join(commands))


def ten_thousand(bench: Bench, steps: int = 10_000) -> Path:
    """Steps that need nothing and write one line each."""
    root = bench.directory(f"work/trivial-{steps}")
    project = root / "project"
    if project.exists():
        return root
    project.mkdir()
    wasm = ['[app]\nname = "trivial"\n\n[source]\npath = "project"\n']
    ninja = ["rule true\n  command = /bin/true && : > $out\n"]
    for step in range(steps):
        wasm.append(f'\n[steps.s{step}]\nplugin = "{bench.test_step("concat")}"\nconfig = {{ text = "{step}\\n" }}\n')
        ninja.append(f"build out/{step}: true\n")
    (root / "trivial.pipeline").write_text("".join(wasm))
    (root / "build.ninja").write_text("".join(ninja))
    (root / "out").mkdir()
    os.sync()
    time.sleep(3)
    return root
