"""Where the relays' own software is: an environment for each, below ``.venv/relays``.

What is in one is said by the relay's folder, to the version of every package. It is made once, and
again when that has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from tests.support.servers import ROOT

_ENVIRONMENTS = ROOT / ".venv" / "relays"
_SECONDS_TO_INSTALL = 900
_STAMP = "installed"


class Unavailable(Exception):
    """A relay can't be had here; the message is one sentence that says why."""


def program(name: str) -> Path | None:
    """A program of this project's environment, or else of the system."""
    folders = [str(ROOT / ".venv" / "bin"), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(folders))
    return Path(found) if found else None


class PythonPackages:
    """A virtual environment.

    :param source: the folder with ``requirements.txt``.
    """

    def __init__(self, source: Path) -> None:
        self._requirements = source / "requirements.txt"
        self._folder = _ENVIRONMENTS / source.name
        self.bin = self._folder / "bin"

    def install(self) -> None:
        """Make it, unless it is there.

        :raises Unavailable: if that fails.
        """
        wanted = _digest(self._requirements, extra=sys.version)
        if _is_made(self._folder, wanted):
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(self._folder)])
        pip = [str(self.bin / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        # All of it is named, so nothing else is to be found out and brought in.
        _run([*pip, "install", "--no-deps", "-r", str(self._requirements)])
        (self._folder / _STAMP).write_text(wanted)

    def version(self, name: str) -> str:
        """The version of a package in it."""
        folders = [str(each) for each in self._folder.glob("lib/python3*/site-packages")]
        return str(next(iter(distributions(name=name, path=folders))).version)


class NodePackages:
    """A ``node_modules`` with the files beside it that use it.

    :param source: the folder with ``package.json`` and ``package-lock.json``.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self.folder = _ENVIRONMENTS / source.name

    @property
    def node(self) -> Path:
        """Node itself. What is called ``node`` may be a script that starts it, as PyPI's is.

        :raises Unavailable: where it is not installed.
        """
        return Path(said_by(str(_needed("node")), "-p", "process.execPath"))

    def install(self) -> None:
        """Make it, unless it is there.

        :raises Unavailable: if that fails.
        """
        described = [self._source / "package.json", self._source / "package-lock.json"]
        npm, wanted = _needed("npm"), _digest(*described, extra=str(self.node))
        if not _is_made(self.folder, wanted):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            for path in described:
                shutil.copy(path, self.folder)
            quiet = ["--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
            _run([str(npm), "--prefix", str(self.folder), "ci", *quiet])
            (self.folder / _STAMP).write_text(wanted)

    def place(self, name: str) -> Path:
        """Put a file of the source beside the packages, which is where Node looks for them."""
        return Path(shutil.copy(self._source / name, self.folder))

    def version(self, name: str) -> str:
        """The version of a package in it."""
        description = (self.folder / "node_modules" / name / "package.json").read_text()
        return str(json.loads(description)["version"])


def said_by(*command: str) -> str:
    """What a program prints, on either stream."""
    made = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return (made.stdout + made.stderr).strip()


def _needed(name: str) -> Path:
    found = program(name)
    if found is None:
        raise Unavailable(f"{name} is not installed.")
    return found


def _digest(*paths: Path, extra: str) -> str:
    content = b"\0".join(path.read_bytes() for path in paths)
    return hashlib.sha256(content + extra.encode()).hexdigest()


def _is_made(folder: Path, wanted: str) -> bool:
    stamp = folder / _STAMP
    return stamp.exists() and stamp.read_text() == wanted


def _run(command: list[str]) -> None:
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), os.environ.get("PATH", os.defpath)])
    try:
        subprocess.run(
            command,
            check=True,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS_TO_INSTALL,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{_spelled(command)} took too long.") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{_spelled(command)} failed: {_complaint(error.stdout)}.") from None


def _complaint(said: str) -> str:
    """The line that says most: the first with an error, or else the last."""
    lines = said.strip().splitlines() or ["nothing was said"]
    found = next((line for line in lines if "error" in line.lower()), lines[-1])
    return found.rstrip(".")[:200]


def _spelled(command: list[str]) -> str:
    words = [word for word in command if not word.startswith("-")]
    return " ".join(Path(word).name for word in words)
