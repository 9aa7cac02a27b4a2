"""Open WebUI in front of chatproxy, as its user sees it, in Chromium: ``make open-webui``.

It is not among the tests, because it takes 900 MB and some minutes to install. Nothing of it is
changed. It is installed as it is for models that are elsewhere: with what the list
``requirements-slim.txt`` in its own wheel names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.processes import reserved_port

from ..support.servers import ROOT, DeepSeek, Process, Proxy, clean_environment, new_id

ENVIRONMENT = ROOT / ".venv" / "open-webui"
VERSION = (ROOT / "tests" / "clients" / "open-webui.txt").read_text().split("==")[1].strip()
#: What DeepSeek does, and what the user sees of it before the Stop.
PHASES: dict[str, dict[str, Any]] = {
    "waiting": {"never": "tokens"},
    "streaming": {"rate": 20, "tokens": 100_000, "reasoning_tokens": 0},
}

#: Nobody has to log in, nothing is looked for on the network, and nothing but answers is asked for.
SETTINGS = {
    "FROM_INIT_PY": "true",
    "USE_SLIM_DOCKER": "true",
    "OFFLINE_MODE": "true",
    "WEBUI_AUTH": "false",
    "WEBUI_SECRET_KEY": "secret",
    "OPENAI_API_KEY": "-",
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "ENABLE_TITLE_GENERATION": "false",
    "ENABLE_TAGS_GENERATION": "false",
    "ENABLE_FOLLOW_UP_GENERATION": "false",
}

pytestmark = pytest.mark.timeout(300)


class OpenWebUI(Process):
    """The application with its database in a folder of its own, and nobody to log in."""

    patience = 180

    def __init__(self, base_url: str, port: int, folder: Path) -> None:
        self._address_told = f"http://127.0.0.1:{port}"
        settings = {**SETTINGS, "DATA_DIR": folder, "OPENAI_API_BASE_URL": base_url}
        command = [ENVIRONMENT / "bin" / "open-webui", "serve", "--host", "127.0.0.1"]
        environment = clean_environment(**settings)
        super().__init__([*command, "--port", str(port)], folder / "log", environment)

    def _address(self) -> str | None:
        assert self.process.poll() is None, self.log()
        try:
            requests.get(f"{self._address_told}/health", timeout=5).raise_for_status()
        except requests.RequestException:
            return None
        return self._address_told


@pytest.fixture(scope="module")
def server(start_proxy: Any, deepseek: DeepSeek) -> Proxy:
    """The real server; the text of a question says what DeepSeek does."""
    started: Proxy = start_proxy("gunicorn", deepseek.url, TEST_SCENARIO_IN_TEXT=1)
    return started


@pytest.fixture(scope="module")
def page(server: Proxy, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of Open WebUI."""
    folder = tmp_path_factory.mktemp("open-webui")
    with (
        reserved_port() as port,
        OpenWebUI(f"{server.url}/v1", port, folder) as started,
        browser.new_context(base_url=started.url) as context,
    ):
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto("/")
        page.get_by_role("button", name="Okay, Let's Go!").click()  # what is new in it
        yield page


def ask(page: Any, **simulate: Any) -> str:
    """Ask in a new chat; return the tag that the question has at DeepSeek."""
    tag = new_id()
    page.goto("/")
    page.locator("#chat-input").click()
    page.keyboard.insert_text(json.dumps({"tag": tag, **simulate}))
    page.keyboard.press("Enter")
    return tag


def wait_for_text(page: Any, text: str) -> None:
    page.wait_for_function("(text) => document.body.innerText.includes(text)", arg=text)


def test_an_answer_comes_whole(page: Any) -> None:
    ask(page, rate=0, text="One two three.")
    wait_for_text(page, "One two three.")
    page.get_by_role("button", name="Stop").wait_for(state="detached")


@pytest.mark.parametrize("phase", PHASES)
def test_its_stop_ends_what_runs_at_deepseek(
    page: Any, deepseek: DeepSeek, server: Proxy, phase: str
) -> None:
    tag = ask(page, **PHASES[phase])
    deepseek.entry(tag)
    if phase == "streaming":
        wait_for_text(page, "amber birch cloud")
    page.get_by_role("button", name="Stop").last.click()
    assert not deepseek.gone(tag)["finished"]
    server.wait_until_empty()


def test_its_user_reads_what_deepseek_refuses(page: Any) -> None:
    ask(page, status=402)
    wait_for_text(page, "The balance at DeepSeek is used up.")


def test_the_page_has_this_version() -> None:
    assert f"Open WebUI {VERSION}" in (ROOT / "docs" / "clients.md").read_text()
