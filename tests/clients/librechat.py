"""What LibreChat asks models with, in front of a real server: ``make librechat``.

LibreChat itself can't be had as a package. Two parts of its server are, and are run here unchanged:
what reads its configuration (``librechat-data-provider``), and what asks and is aborted by its Stop
(``@librechat/agents``). It is not among the tests, because it takes 500 MB.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from ..support.servers import ROOT, DeepSeek, Proxy, clean_environment, new_id

FOLDER = ROOT / ".venv" / "librechat"
NODE = ROOT / ".venv" / "bin" / "node"
GUIDE = (ROOT / "docs" / "clients.md").read_text()


@pytest.fixture(scope="module")
def server(start_proxy: Any, deepseek: DeepSeek) -> Proxy:
    """The real server; the text of a question says what DeepSeek does."""
    started: Proxy = start_proxy("gunicorn", deepseek.url, TEST_SCENARIO_IN_TEXT=1)
    return started


def run(*arguments: str) -> Any:
    command = [NODE, ROOT / "tests" / "clients" / "librechat.cjs", FOLDER, *arguments]
    environ = clean_environment()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def ask(server: Proxy, *stop: str, **simulate: Any) -> tuple[str, Any]:
    """Ask; return the tag that the question has at DeepSeek, and what its user gets."""
    tag = new_id()
    return tag, run("ask", f"{server.url}/v1", json.dumps({"tag": tag, **simulate}), *stop)


def test_the_guide_s_configuration_is_taken() -> None:
    (config,) = re.findall(r"```yaml\n(version: .*?)```", GUIDE, re.DOTALL)
    assert run("check", config) == []


def test_an_answer_comes_whole(server: Proxy) -> None:
    _, told = ask(server, rate=0, text="One two three.")
    assert told == {"text": "One two three.", "error": None}


def test_its_stop_ends_what_runs_at_deepseek(server: Proxy, deepseek: DeepSeek) -> None:
    tag, told = ask(server, "stop", rate=20, tokens=100_000, reasoning_tokens=0)
    assert told["text"].startswith("amber ")
    assert not deepseek.gone(tag)["finished"]


def test_its_user_reads_what_deepseek_refuses(server: Proxy) -> None:
    _, told = ask(server, status=402)
    assert "The balance at DeepSeek is used up." in told["error"]


def test_the_guide_has_these_versions() -> None:
    for package in ("@librechat/agents", "librechat-data-provider"):
        found = json.loads((FOLDER / "node_modules" / package / "package.json").read_text())
        assert f"`{package}` {found['version']}" in GUIDE
