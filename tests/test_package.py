"""The package as ``pip install`` makes it: what the wheel holds, and what it needs to serve.

The wheel is built and installed once, without an extra, into an environment of its own. What it
requires is linked from the environment of the tests, where it is installed already, with
setuptools: no index is asked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement

from .support.servers import (
    ROOT,
    Client,
    DeepSeek,
    Process,
    clean_environment,
    data_events,
    events,
    new_id,
)

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "chatproxy"
OF_A_BUILD = ("setup.cfg", "setup.py", "README.md", "LICENSE")
EXTRAS = {"gunicorn", "h11", "prometheus_client", "redis"}

APPLICATION = """
from flask import Flask
from werkzeug.serving import make_server

from chatproxy import ChatProxy

app = Flask("alone")
ChatProxy(app)
server = make_server("127.0.0.1", 0, app, threaded=True)
print(f"Listening at: http://127.0.0.1:{server.port}", flush=True)
server.serve_forever()
"""


PIP = (sys.executable, "-m", "pip", "--quiet")


def without_our_source(**settings: str) -> dict[str, str]:
    """The environment of a process that finds no source of ours."""
    environment: dict[str, str] = clean_environment(**settings)
    environment.pop("PYTHONPATH", None)
    return environment


def run(*command: str | Path, cwd: Path) -> str:
    environment = without_our_source(PIP_DISABLE_PIP_VERSION_CHECK="1")
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built of a copy of the source: a build leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("client", "__pycache__")
    shutil.copytree(PACKAGE, source / "chatproxy", ignore=ignore)
    for name in OF_A_BUILD:
        shutil.copy(ROOT / name, source)
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist")
    run(*PIP, *build, ".", cwd=source)
    [built] = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and what that requires, alone."""
    folder = tmp_path_factory.mktemp("alone")
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    run(*PIP, "--python", python, "install", "--no-deps", "--no-compile", wheel, cwd=folder)
    [metadata] = (folder / "env").glob("lib/*/site-packages/chatproxy-*.dist-info")
    for each in required(PathDistribution(metadata)):
        link(each, metadata.parent)
    return python


def required(by: Distribution) -> Iterable[Distribution]:
    """What is required without an extra, and what that requires, in versions that will do."""
    for each in map(Requirement, by.requires or ()):
        if each.marker is None or each.marker.evaluate({"extra": ""}):
            found = distribution(each.name)
            assert each.specifier.contains(found.version), each
            yield found
            yield from required(found)


def link(installed: Distribution, folder: Path) -> None:
    """Have a folder of packages hold what is installed elsewhere."""
    for name in {path.parts[0] for path in installed.files or ()} - {"..", "__pycache__"}:
        if not (folder / name).exists():
            (folder / name).symlink_to(installed.locate_file(name))


def files_of(folder: Path) -> Iterator[str]:
    """The files of the package, without the page's source."""
    for top in folder.iterdir():
        for path in [] if top.name == "client" else [top, *top.rglob("*")]:
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(folder.parent).as_posix()


def test_the_wheel_holds_every_module_and_the_page(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("chatproxy/")}
    assert held == set(files_of(PACKAGE))


@pytest.mark.parametrize(("command", "extra"), [("serve", "server"), ("simulate", "simulate")])
def test_a_command_names_the_extra_that_it_needs(
    python: Path, tmp_path: Path, command: str, extra: str
) -> None:
    environment = without_our_source(DEEPSEEK_BASE_URL="http://127.0.0.1:1")
    words = [python.parent / "chatproxy", command]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"pip install 'chatproxy[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_alone_it_serves_an_application_and_stops_an_answer(
    python: Path, deepseek: DeepSeek, tmp_path: Path
) -> None:
    """Under plain threads, with nothing that an extra brings."""
    code = "import importlib.util as u, sys; print(*filter(u.find_spec, sys.argv[1:]))"
    assert run(python, "-c", code, *EXTRAS, cwd=tmp_path).split() == []
    environment = without_our_source(DEEPSEEK_BASE_URL=deepseek.url)
    command = [str(python), "-I", "-c", APPLICATION]
    with Process(command, tmp_path / "server.log", environment) as server:
        session_id, tag = new_id(), new_id()
        client = Client(server.port).post_stream(session_id, simulate={"rate": 50, "tag": tag})
        client.read_until(b"\nid: 3\n")
        receipt = requests.post(f"{server.url}/api/chat/cancel/{session_id}", timeout=10).json()
        _, body = client.read_answer()
    assert (receipt["success"], receipt["upstreamClosed"]) == (True, True)
    assert len(data_events(body)) == receipt["events"]
    assert [each.get("event") for each in events(body)][-2:] == ["stopped", None]
    assert deepseek.gone(tag)["finished"] is False
