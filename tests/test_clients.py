"""OpenAI's own clients and those of others, unmodified, in front of a real server.

Each client gets all of its questions at once. docs/clients.md has a table of what they do; each row
of it is made here, and the code on that page is run.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .support.clients import (
    ENVIRONMENT,
    NODE,
    Asked,
    RealClient,
    drive_node,
    drive_python,
    is_there,
    printed,
)
from .support.driven import DrivenProcess
from .support.servers import ROOT, DeepSeek, Proxy, clean_environment, new_id

PAGE = (ROOT / "docs" / "clients.md").read_text()

CLIENTS = [
    "openai-python",
    "openai-node",
    "langchain-openai",
    "langchain-deepseek",
    "litellm, openai/",
    "litellm, deepseek/",
    "llm",
]
#: What keeps an answer in each phase.
PHASES: dict[str, dict[str, Any]] = {
    "connecting": {"status": 503, "retry_after": 15},
    "waiting": {"never": "headers"},
    "streaming": {"rate": 50, "tokens": 100_000},
}
SAID = "amber birch cloud "
STREAM = [pytest.param(True, id="streamed"), pytest.param(False, id="whole")]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_proxy: Any, deepseek: DeepSeek) -> Proxy:
    """The real server; the text of a question says what DeepSeek does."""
    started: Proxy = start_proxy("gunicorn", deepseek.url, TEST_SCENARIO_IN_TEXT=1)
    return started


@pytest.fixture(scope="module")
def drivers(server: Proxy, logs: Any) -> Iterator[dict[str, DrivenProcess]]:
    """The clients in Python, and the one for Node."""
    if not is_there():
        pytest.skip("the clients are not installed; make .venv/clients/installed does that")
    with contextlib.ExitStack() as stack:
        drives = {"python": drive_python, "node": drive_node}
        yield {
            name: stack.enter_context(contextlib.closing(drive(f"{server.url}/v1", logs(name))))
            for name, drive in drives.items()
        }


class Seen(NamedTuple):
    """What a client has been asked, and the receipts of the Stops."""

    client: RealClient
    asked: dict[tuple[str, bool], Asked]
    receipts: dict[tuple[str, bool], dict[str, Any]]


@pytest.fixture(scope="module", params=CLIENTS)
def seen(
    request: pytest.FixtureRequest,
    drivers: dict[str, DrivenProcess],
    server: Proxy,
    deepseek: DeepSeek,
) -> Seen:
    """One client, with all its questions asked, and its answers stopped that are to be."""
    driver = drivers["node" if request.param == "openai-node" else "python"]
    client = RealClient(request.param, driver)
    assert client.version  # it is there
    asked = {
        ("left", True): client.ask(stream=True, leave=True, with_id=False, **PHASES["streaming"])
    }
    for stream in (True, False):
        asked["whole", stream] = client.ask(stream=stream, rate=0, tokens=3)
        asked["refused", stream] = client.ask(stream=stream, status=402)
        asked["busy", stream] = client.ask(stream=stream, status=503)
        asked["cut", stream] = client.ask(stream=stream, rate=0, end="cut", end_after=2)
        for phase, simulate in PHASES.items():
            asked[phase, stream] = client.ask(stream=stream, **simulate)
    receipts = {}
    for (phase, stream), each in asked.items():
        if phase in PHASES:
            if phase == "connecting":  # between two tries
                deepseek.entry(each.id, lambda entry: not entry["open"], 60.0)
            server.wait_for_phase(each.id, phase)
            receipts[phase, stream] = server.cancel(each.id)[1]
    return Seen(client, asked, receipts)


@pytest.mark.parametrize("stream", STREAM)
def test_an_answer_comes_whole(seen: Seen, stream: bool) -> None:
    assert seen.asked["whole", stream].told == (SAID, "stop", None)


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_by_its_id_ends_it_in_each_phase(
    seen: Seen, deepseek: DeepSeek, phase: str, stream: bool
) -> None:
    asked, receipt = seen.asked[phase, stream], seen.receipts[phase, stream]
    assert (receipt["phase"], receipt["upstreamClosed"]) == (phase, True)
    told = asked.told
    assert told.text.startswith("amber ") or told.text == ""
    assert f"| {outcome_of(asked)} |" in row_on_the_page(seen)
    entry = deepseek.entry(asked.id, lambda entry: not entry["open"])
    assert entry["finished"] == (phase == "connecting")  # which it has answered with a status
    assert len(deepseek.entries(asked.id)) == 1


def test_closing_the_connection_ends_it(seen: Seen, deepseek: DeepSeek) -> None:
    asked = seen.asked["left", True]
    assert asked.told.error is None
    assert not deepseek.gone(asked.id)["finished"]


#: What the user reads of each, and how often DeepSeek is asked.
FAILURES = {
    "refused": ("The balance at DeepSeek is used up.", 1),
    "cut": ("The connection to DeepSeek broke off.", 1),
    "busy": ("DeepSeek is busy; try again later.", 3),
}


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("question", FAILURES)
def test_a_failure_is_an_error_and_no_client_asks_again(
    seen: Seen, deepseek: DeepSeek, question: str, stream: bool
) -> None:
    asked, (sentence, requests) = seen.asked[question, stream], FAILURES[question]
    assert sentence in str(asked.told.error)
    assert asked.told.finish is None
    assert len(deepseek.entries(asked.id)) == requests


def outcome_of(asked: Asked) -> str:
    """How a stopped answer shows."""
    return f"`{asked.told.finish}`" if asked.told.error is None else "an error"


def row_on_the_page(seen: Seen) -> str:
    """The row of a client; empty if there is none."""
    found = re.search(rf"^\| {re.escape(seen.client.name)} \|.*$", PAGE, re.MULTILINE)
    return found[0] if found else ""


def test_the_page_has_its_row(seen: Seen) -> None:
    stopped = [outcome_of(seen.asked["streaming", stream]) for stream in (True, False)]
    cells = [seen.client.name, seen.client.version, "yes", *stopped, *["yes"] * 3, "3"]
    assert row_on_the_page(seen) == f"| {' | '.join(cells)} |"


# --- the code on the page

QUICK = json.dumps({"rate": 0, "tokens": 3})
SLOW = json.dumps({"rate": 50, "tokens": 100_000})


def code(server: Proxy, heading: str, language: str, question: str = QUICK) -> str:
    """What the page shows under a heading, for this server, with another question."""
    section = PAGE.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    shown = found[1].replace("http://127.0.0.1:8000", server.url)
    return shown.replace('"Hello"', json.dumps(question))


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints."""
    environ = clean_environment(**environment)
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_for_openai_python_stops_an_answer(
    drivers: dict[str, DrivenProcess], server: Proxy
) -> None:
    said = printed(drivers["python"], code(server, "openai-python", "python", SLOW))
    assert said.startswith("amber ")
    assert "'upstreamClosed': True" in said
    assert said.endswith("cancelled\n")


@pytest.mark.usefixtures("drivers")
def test_the_code_for_openai_node_stops_an_answer(server: Proxy, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(ENVIRONMENT / "node_modules")
    (tmp_path / "it.mjs").write_text(code(server, "openai-node", "javascript", SLOW))
    printed = run([str(NODE), "it.mjs"], tmp_path)
    assert printed.startswith("amber ")
    assert "upstreamClosed: true" in printed
    assert "cancelled" in printed


@pytest.mark.parametrize("heading", ["LangChain", "LiteLLM"])
def test_the_code_for_others_runs(
    drivers: dict[str, DrivenProcess], server: Proxy, heading: str
) -> None:
    assert printed(drivers["python"], code(server, heading, "python")) == SAID


@pytest.mark.usefixtures("drivers")
def test_the_settings_for_llm_are_right_and_ctrl_c_ends_its_answer(
    server: Proxy, deepseek: DeepSeek, tmp_path: Path
) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(code(server, "`llm`", "yaml"))
    tag = new_id()
    question = json.dumps({"tag": tag, "rate": 50, "tokens": 100_000})
    running = subprocess.Popen(
        [str(ENVIRONMENT / "bin" / "llm"), "-m", "flash", question],
        env=clean_environment(LLM_USER_PATH=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with running:
        assert running.stdout is not None
        assert running.stdout.read(6) == b"amber "
        running.send_signal(signal.SIGINT)
    assert not deepseek.gone(tag)["finished"]


def test_the_command_for_curl_is_right(server: Proxy, tmp_path: Path) -> None:
    shown = code(server, "curl", "console").removeprefix("$ ")
    command = shlex.split(shown.replace("\\\n", ""))
    said = json.loads(run([command[0], "-sS", *command[1:]], tmp_path))
    assert said["choices"][0]["message"]["content"] == SAID
