"""docs/runs.md: its code is what is run here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from chatproxy.testing import DeepSeek, StopReachesUpstream

from .support.guides import blocks_in
from .support.instant import HELLO
from .support.scripted import Scripted
from .support.servers import ROOT, events

GUIDE = "docs/runs.md"
Ask = Callable[..., list[dict[str, str]]]


@pytest.fixture
def guide(
    simulated_deepseek: DeepSeek, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What the blocks of the guide define, all in one module, but for what they take as given."""
    monkeypatch.setenv("CHATPROXY_RUN_DIR", str(tmp_path))
    for name, value in simulated_deepseek.settings.items():
        monkeypatch.setenv(name, value)
    given: dict[str, Any] = {
        "__name__": "guide",
        "open_case": lambda payload: nullcontext(SimpleNamespace(compute=lambda step: None)),
        "current_user": SimpleNamespace(get_id=lambda: "ann"),
        "logout_user": lambda: None,
    }
    exec("\n".join(blocks_in(GUIDE)), given)
    simulated_deepseek.reset()  # one of the blocks is a script, which asks at once
    return given


@pytest.fixture
def ask(guide: dict[str, Any]) -> Ask:
    """The events of an answer of a run."""

    def ask(run: str) -> list[dict[str, str]]:
        headers = {"X-Session-Id": run}
        path = f"/api/chat/runs/{run}"
        return events(guide["app"].test_client().post(path, json=HELLO, headers=headers).data)

    return ask


def text_of(answer: list[dict[str, str]]) -> str:
    chunks = [json.loads(each["data"]) for each in answer if each["data"].startswith('{"id"')]
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks)


@contextmanager
def service(body: bytes) -> Iterator[str]:
    """The URL of an HTTP service that says this."""
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with Scripted(lambda connection, _: connection.sendall(response)) as site:
        yield f"{site.url}/page"


def test_a_run_of_two_questions_and_a_request(
    ask: Ask,
    guide: dict[str, Any],
    simulated_deepseek: DeepSeek,
    stop_reaches_upstream: StopReachesUpstream,
) -> None:
    with service(b"All about it.") as guide["SEARCH_URL"]:
        simulated_deepseek.simulate_next(text="owls")
        told = ask("research")
        assert told[0] == {
            "id": "1",
            "event": "source",
            "by": "run",
            "data": '{"subject":"owls"}',
        }
        assert text_of(told) == "This is a simulated answer."
        last = simulated_deepseek.questions[-1]["messages"][-1]["content"]
        assert last == "Answer from this page:\n\nAll about it."

        simulated_deepseek.simulate_next(text="owls")
        receipt = stop_reaches_upstream(guide["app"], "/api/chat/runs/research")
    names = [call["name"] for call in receipt["calls"]]
    assert names == ["plan", "GET 127.0.0.1", "answer"]
    listed = json.loads((ROOT / GUIDE).read_text().partition("```json\n")[2].partition("```")[0])
    assert receipt.keys() - {"usageSpread"} == listed.keys()
    assert receipt["calls"][0].keys() == listed["calls"][0].keys()
    assert receipt["events"] <= receipt["calls"][2]["events"]  # the last may not have been shown


def test_a_loop_that_looks_whether_it_goes_on(ask: Ask) -> None:
    assert text_of(ask("careful")) == "Done."


def test_another_model_if_the_first_one_fails(ask: Ask, simulated_deepseek: DeepSeek) -> None:
    simulated_deepseek.simulate_next(status=402)
    told = text_of(ask("resilient"))
    assert told.startswith("(")
    assert told.endswith(") This is a simulated answer.")
    models = [question["model"] for question in simulated_deepseek.questions]
    assert models == ["deepseek-v4-pro", "deepseek-flash"]


def test_a_tool(ask: Ask, guide: dict[str, Any], simulated_deepseek: DeepSeek) -> None:
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    simulated_deepseek.simulate(tool_calls=[call], text="Bring a coat.")
    with service(b'{"snow": "2 m"}') as guide["WEATHER_URL"]:
        told = ask("assistant")
    assert [each["event"] for each in told if "event" in each] == ["tool-call", "tool-result"]
    assert text_of(told) == "Bring a coat."
    [tool] = simulated_deepseek.questions[0]["tools"]
    assert tool["function"]["description"] == "The weather of a city in the next days."
    assert tool["function"]["parameters"]["properties"]["city"]["description"] == "Its name."


def test_an_answer_from_python_and_a_logout(
    capsys: pytest.CaptureFixture[str], guide: dict[str, Any], simulated_deepseek: DeepSeek
) -> None:
    said, usage = capsys.readouterr().out, guide["answer"].usage
    assert said == f"This is a simulated answer.finished {usage}\n"
    assert usage["completion_tokens"] == 5
    simulated_deepseek.simulate(tokens=100_000, rate=20)
    app: Flask = guide["app"]
    answer = guide["chat"].start(HELLO, owner="ann")
    simulated_deepseek.wait_for(lambda request: request["tokens"] > 2)
    assert app.test_client().post("/logout").status_code == 204
    assert answer.wait() == "stopped"
