"""Where things are: the binary, the peers (installed on first use), and directories to work in."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY / "target/bench"
ASIDE = ROOT / "aside"


class Bench:
    def __init__(self, pipe: Path | None) -> None:
        self.pipe = (pipe or REPOSITORY / "target/release/pipe").absolute()
        self.root = ROOT
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.pipe.exists():
            sys.exit(f"{self.pipe} is not there: run `make build`")

    def directory(self, name: str) -> Path:
        """A directory to work in, which stays until the next run."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def home(self, name: str) -> dict[str, str]:
        """The environment of a pipe with a home of its own."""
        return {"PIPE_HOME": str(self.directory(f"homes/{name}"))}

    def test_step(self, name: str) -> Path:
        """A step of `tests/steps`, compiled."""
        return REPOSITORY / f"target/test-steps/{name}.wasm"

    def from_pypi(self, program: str, package: str | None = None) -> str:
        """A program of PyPI."""
        venv = self.root / "peers/venv"
        path = venv / "bin" / program
        if not path.exists():
            if not venv.exists():
                install(sys.executable, "-m", "venv", str(venv))
            install(str(venv / "bin/pip"), "install", "--quiet", package or program)
        return str(path)

    def from_npm(self, program: str, package: str | None = None) -> str:
        """A program of npm; needs node."""
        prefix = self.root / "peers/npm"
        path = prefix / "node_modules/.bin" / program
        if not path.exists():
            prefix.mkdir(parents=True, exist_ok=True)
            npm = shutil.which("npm") or sys.exit("npm is not there: install node, or name rows without turbo and moon")
            install(npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(prefix), package or program)
        return str(path)

    def from_debian(self, program: str, package: str | None = None) -> str:
        """A program of a Debian package, which nothing of it is started by."""
        os.environ["PATH"] += ":/usr/sbin"
        if shutil.which(program) is None:
            root = [] if os.getuid() == 0 else ["sudo"]
            install(*root, "apt-get", "update", "-qq")
            # No server of it begins to run: this is the run level in which none does.
            quiet = ["env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive"]
            install(*root, *quiet, "apt-get", "install", "-qq", "-y", "--no-install-recommends", package or program)
        return shutil.which(program) or sys.exit(f"{program} is not there after the installation of {package or program}")

    def file_system(self) -> str:
        mounts = [line.split() for line in Path("/proc/self/mounts").open()]
        under = [mount for mount in mounts if os.path.commonpath([self.root, mount[1]]) == mount[1]]
        return max(under, key=lambda mount: len(mount[1]))[2]


def install(*command: str) -> None:
    print("installing:", " ".join(command), file=sys.stderr)
    subprocess.run(command, check=True, stdout=sys.stderr)


def output(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What a command says that is not measured and must pass."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} (in {cwd}) ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def copied(home: Path, to: Path) -> None:
    """A home of pipe's as another that shares nothing with it."""
    emptied(to)
    shutil.copytree(home, to, symlinks=True)


def emptied(*paths: Path) -> None:
    """Puts aside what is there, and waits until the disk has nothing left to do about it. To remove it would be measured:
    ext4 without a journal passes over the inodes of what was removed a moment ago one by one, for each that it makes."""
    for path in paths:
        if path.exists() or path.is_symlink():
            ASIDE.mkdir(parents=True, exist_ok=True)
            path.rename(Path(tempfile.mkdtemp(dir=ASIDE)) / path.name)
    os.sync()


def cleared() -> None:
    """Removes what was put aside."""
    shutil.rmtree(ASIDE, ignore_errors=True)
