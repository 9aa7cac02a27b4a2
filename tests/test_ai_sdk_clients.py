"""The AI SDK's own clients, in Node: a chat of ``useChat``, and the providers of its models.

The chat is ``AbstractChat`` with ``DefaultChatTransport``, unchanged: what a page has behind
``useChat``. The providers ask the routes of OpenAI's protocol.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server

from chatproxy import ChatProxy, sse

from .support import scripted
from .support.ai_sdk import FOLDER, NODE, UseChat, drive_ai_sdk, is_there
from .support.driven import DrivenProcess
from .support.servers import ROOT, new_id
from .support.spoken import chunk, delta

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_there(), reason="make .venv/ai-sdk"),
]

GUIDE = (ROOT / "docs" / "use-chat.md").read_text()
#: The rows of the guide's table: the version of each package, and how it calls a Stop.
ROWS = {
    name: (version, stopped)
    for name, version, stopped in re.findall(
        r"^\| `(.+?)`.*? \| ([\d.]+) \| `(\w+)` \|", GUIDE, re.MULTILINE
    )
}
TEXT = "One two three."
WHOLE = {"rate": 0, "text": TEXT, "reasoning_tokens": 5}
#: What keeps an answer in each phase.
PHASES = {
    "connecting": {"status": 503, "retry_after": 15},
    "waiting": {"never": "tokens"},
    "streaming": {"rate": 50, "tokens": 100_000},
}


@pytest.fixture(scope="module")
def ai_sdk(logs: Any) -> Iterator[DrivenProcess]:
    with contextlib.closing(drive_ai_sdk(logs("ai-sdk"))) as ai_sdk:
        yield ai_sdk


@pytest.fixture(scope="module")
def server(start_proxy: Any, deepseek: Any) -> Any:
    return start_proxy("gunicorn", deepseek.url)


@pytest.fixture
def chat(ai_sdk: DrivenProcess, server: Any) -> UseChat:
    return UseChat(ai_sdk, server.url)


def reach(server: Any, deepseek: Any, session_id: str, phase: str) -> None:
    """Wait until an answer is in a phase, in which it stays."""
    if phase == "connecting":
        deepseek.entry(session_id, lambda entry: not entry["open"])
    server.wait_for_phase(session_id, phase)


def assert_left(deepseek: Any, session_id: str, phase: str) -> None:
    """See that the upstream was left; in the pause between two tries nothing is connected to it."""
    if phase == "connecting":
        assert len(deepseek.entries(session_id)) == 1
    else:
        assert not deepseek.gone(session_id)["finished"]


def press_stop(server: Any, chat: UseChat) -> Any:
    """Press the Stop as an application does."""
    response = requests.post(f"{server.url}/api/chat/{chat.id}/stop", timeout=10)
    assert response.status_code == 200
    return response.json()


def ended(**fields: Any) -> list[dict[str, Any]]:
    """What ``onFinish`` was told."""
    nothing = {"isAbort": False, "isDisconnect": False, "isError": False}
    return [{**nothing, **fields}]


# --- a chat


def test_whole_answers_and_one_that_is_made_anew(chat: UseChat) -> None:
    view = chat.send(**WHOLE).settled()
    assert (view.status, view.text) == ("ready", TEXT)
    assert view.reasoning
    assert [part["type"] for part in view.parts] == ["step-start", "reasoning", "text"]
    assert view.metadata["chatproxy"] == {"sessionId": chat.id}
    usage = view.metadata["usage"]
    assert usage["outputTokens"] == usage["raw"]["completion_tokens"] > 0
    assert view.ended == ended(finishReason="stop")
    second = chat.send(rate=0, text="Another.").settled()
    assert [message["role"] for message in second.messages] == ["user", "assistant"] * 2
    third = chat.regenerate(rate=0, text="A third.").settled()
    assert (len(third.messages), third.text) == (4, "A third.")
    assert len({message["id"] for message in [*second.messages, *third.messages]}) == 5


@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_by_the_chat_s_id(chat: UseChat, server: Any, deepseek: Any, phase: str) -> None:
    chat.send(**PHASES[phase])
    reach(server, deepseek, chat.id, phase)
    text = chat.look_for("text").text if phase == "streaming" else ""
    receipt = press_stop(server, chat)
    assert (receipt["phase"], receipt["upstreamClosed"]) == (phase, True)
    view = chat.settled()
    assert (view.status, view.error) == ("ready", {})
    assert view.ended == ended(finishReason=ROWS["ai"][1])
    assert view.text.startswith(text)
    assert all(part.get("state", "done") == "done" for part in view.parts)
    stopped = view.metadata["chatproxy"]["stopped"]
    assert (stopped["reason"], stopped["events"]) == ("user", receipt["events"])
    assert view.data == [{"type": "data-chatproxy-stopped", "data": stopped, "transient": True}]
    assert_left(deepseek, chat.id, phase)


@pytest.mark.parametrize("phase", ["waiting", "streaming"])
def test_the_hook_s_own_stop_closes_the_connection_and_that_ends_the_answer(
    chat: UseChat, server: Any, deepseek: Any, phase: str
) -> None:
    chat.send(**PHASES[phase])
    reach(server, deepseek, chat.id, phase)
    view = chat.stop()
    assert view.status == "ready"
    assert view.ended == ended(isAbort=True)
    assert not deepseek.gone(chat.id)["finished"]
    assert server.lines(f"{chat.id} client disconnected")


def test_an_upstream_s_refusal_is_an_error_with_its_sentence(chat: UseChat) -> None:
    view = chat.send(status=402).settled()
    assert (view.status, view.error["status"]) == ("error", 502)
    assert json.loads(view.error["message"])["code"] == "upstream_balance"
    assert view.ended == ended(isError=True)


@pytest.mark.parametrize("end", ["cut", "eof", "reset", "error"])
def test_an_answer_that_is_cut_is_an_error_and_keeps_its_text(chat: UseChat, end: str) -> None:
    view = chat.send(**WHOLE, end=end, end_after=7).settled()
    assert view.status == "error"
    assert view.error["message"].endswith(".")
    assert TEXT.startswith(view.text)
    assert view.text
    assert all(part.get("state", "done") == "done" for part in view.parts)
    assert view.ended == ended(isError=True)


def test_a_second_page_reads_all_of_the_live_answer_can_not_ask_and_sees_the_stop(
    chat: UseChat, ai_sdk: DrivenProcess, server: Any
) -> None:
    first = chat.send(**PHASES["streaming"]).look_for("text")
    again = UseChat(ai_sdk, server.url, chat.id).resume()
    assert again.look_for("text").text
    refused = UseChat(ai_sdk, server.url, chat.id).send(**WHOLE).settled()
    assert (refused.status, refused.error["status"]) == ("error", 409)
    assert json.loads(refused.error["message"])["code"] == "session_active"
    press_stop(server, chat)
    here, there = chat.settled(), again.settled()
    assert there.answer == here.answer
    assert there.answer["id"] == first.answer["id"]
    assert here.text.startswith(first.text)
    assert there.ended == ended(finishReason="interrupted")


def test_a_page_that_was_reloaded_reads_all_of_the_answer(
    ai_sdk: DrivenProcess, start_proxy: Any, deepseek: Any
) -> None:
    server = start_proxy("gunicorn", deepseek.url, CHATPROXY_ON_DISCONNECT=10)
    chat = UseChat(ai_sdk, server.url)
    words = "".join(f"w{number} " for number in range(200))
    chat.send(rate=80, text=words).look_for("text")
    chat.stop()  # what a reload does to the connection
    view = UseChat(ai_sdk, server.url, chat.id).resume().settled()
    assert (view.text.split(), view.status) == (words.split(), "ready")
    assert view.ended == ended(finishReason="stop")


def test_there_is_nothing_to_resume_if_nothing_lives(chat: UseChat) -> None:
    view = chat.resume().settled()
    assert (view.status, view.messages, view.error) == ("ready", [], {})
    chat.send(**WHOLE).settled()
    assert chat.resume().settled().status == "ready"


# --- tools and files: an upstream that the test plays


class Played:
    """An application before an upstream that says what it is given, one list for each question."""

    def __init__(self) -> None:
        self.says: list[list[bytes]] = []
        self._upstream = scripted.Scripted(self._answer)
        app = Flask(__name__)
        app.config.update(DEEPSEEK_BASE_URL=self._upstream.url)
        ChatProxy(app, name=new_id())
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, connection: socket.socket, _body: bytes) -> None:
        connection.sendall(scripted.response(b"".join(b"%b\n\n" % s for s in self.says.pop(0))))

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self._upstream.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self._upstream:
            pass


@pytest.fixture
def played(_plain_environment: None) -> Iterator[Played]:
    with contextlib.closing(Played()) as played:
        yield played


def call(**fields: Any) -> bytes:
    return delta(tool_calls=[{"index": 0, "function": fields.pop("function"), **fields}])


CALLS = [
    delta(reasoning_content="Hm."),
    delta(content="Let me see."),
    call(id="call_1", type="function", function={"name": "weather", "arguments": ""}),
    call(function={"arguments": '{"city":'}),
    call(function={"arguments": ' "Rom"}'}),
    chunk({"content": ""}, finish_reason="tool_calls"),
    sse.DONE,
]
SAYS = [
    chunk({"content": "It is warm."}, id="c2"),
    chunk({"content": ""}, id="c2", finish_reason="stop"),
    sse.DONE,
]


def test_a_tool_is_called_and_its_result_is_answered_in_the_same_message(
    ai_sdk: DrivenProcess, played: Played
) -> None:
    played.says = [CALLS, SAYS]
    chat = UseChat(ai_sdk, played.url, answers={"weather": {"celsius": 30}})
    view = chat.send().settled()
    assert [message["role"] for message in view.messages] == ["user", "assistant"]
    kinds = ["step-start", "reasoning", "text", "tool-weather", "step-start", "text"]
    assert [part["type"] for part in view.parts] == kinds
    assert (view.parts[3]["input"], view.parts[3]["output"]) == ({"city": "Rom"}, {"celsius": 30})
    assert view.text == "Let me see.It is warm."
    function = {"name": "weather", "arguments": '{"city":"Rom"}'}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    assert played.asked[1]["messages"][1:] == [
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius":30}'},
    ]


@pytest.mark.parametrize("ending", ["cut", "no JSON"])
def test_a_call_that_is_not_whole_is_not_carried_out(
    ai_sdk: DrivenProcess, played: Played, ending: str
) -> None:
    whole = [*CALLS[:3], call(function={"arguments": "{"}), *CALLS[5:]]
    played.says = [CALLS[:5] if ending == "cut" else whole, SAYS]
    chat = UseChat(ai_sdk, played.url, answers={"weather": "never"})
    view = chat.send().settled()
    tool = next(part for part in view.parts if part["type"] == "tool-weather")
    assert tool["state"] == "output-error"
    assert view.status == ("error" if ending == "cut" else "ready")


def test_an_image_reaches_the_upstream(ai_sdk: DrivenProcess, played: Played) -> None:
    played.says = [SAYS]
    image = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,iVBORw0K"}
    UseChat(ai_sdk, played.url).send([image]).settled()
    shown = {"type": "image_url", "image_url": {"url": image["url"]}}
    content = [shown, {"type": "text", "text": "Hello"}]
    assert played.asked[0]["messages"] == [{"role": "user", "content": content}]


# --- the providers, at the routes of OpenAI's protocol


@pytest.fixture(params=["deepseek", "openai-compatible"])
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Asking:
    """A question that a provider asks.

    :param fields: ``stream`` and ``leave``, for ``ask`` in ``drive.mjs``.
    """

    def __init__(
        self,
        ai_sdk: DrivenProcess,
        url: str,
        provider: str,
        simulate: dict[str, Any],
        **fields: Any,
    ) -> None:
        self.id = new_id()
        asked = {"provider": provider, "baseURL": f"{url}/v1", "sessionId": self.id}
        how = {"stream": True, "leave": False, **fields}
        self._done = ai_sdk.begin(do="ask", **asked, **how, simulate={"tag": self.id, **simulate})

    @property
    def found(self) -> dict[str, Any]:
        return self._done.result(30)


@pytest.mark.parametrize("stream", [True, False])
def test_a_provider_gets_a_whole_answer(
    ai_sdk: DrivenProcess, server: Any, provider: str, stream: bool
) -> None:
    found = Asking(ai_sdk, server.url, provider, WHOLE, stream=stream).found
    assert (found["text"], found["finishReason"]) == (TEXT, "stop")
    assert found["reasoning"]
    assert found["usage"]["outputTokens"] > 0


@pytest.mark.parametrize("phase", PHASES)
def test_a_provider_s_answer_can_be_stopped_by_its_id(
    ai_sdk: DrivenProcess, server: Any, deepseek: Any, provider: str, phase: str
) -> None:
    asking = Asking(ai_sdk, server.url, provider, PHASES[phase])
    reach(server, deepseek, asking.id, phase)
    status, receipt = server.cancel(asking.id)
    assert (status, receipt["upstreamClosed"]) == (200, True)
    assert "error" not in asking.found
    assert asking.found["finishReason"] == ROWS[f"@ai-sdk/{provider}"][1]
    assert_left(deepseek, asking.id, phase)


def test_a_provider_that_leaves_ends_its_answer(
    ai_sdk: DrivenProcess, server: Any, deepseek: Any, provider: str
) -> None:
    asking = Asking(ai_sdk, server.url, provider, PHASES["streaming"], leave=True)
    assert asking.found["isAbort"]
    assert not deepseek.gone(asking.id)["finished"]


def test_a_provider_shows_a_refusal_and_does_not_take_a_cut_answer_for_a_whole_one(
    ai_sdk: DrivenProcess, server: Any, provider: str
) -> None:
    error = Asking(ai_sdk, server.url, provider, {"status": 402}).found["error"]
    assert error["status"] == 502
    assert "balance" in error["message"]
    cut = {**WHOLE, "end": "cut", "end_after": 7}
    found = Asking(ai_sdk, server.url, provider, cut).found
    assert found["error"]
    assert found["text"]
    assert found.get("finishReason") in (None, "error")


def test_a_provider_gets_tool_calls(ai_sdk: DrivenProcess, played: Played, provider: str) -> None:
    played.says = [CALLS]
    found = Asking(ai_sdk, played.url, provider, {}).found
    assert found["call"] == {"name": "weather", "input": {"city": "Rom"}}
    assert found["finishReason"] == "tool-calls"


# --- the guide


def test_the_guide_names_the_versions_that_are_tried() -> None:
    dependencies = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    assert {name: version for name, (version, _) in ROWS.items()} == {
        name: version for name, version in dependencies.items() if "ai" in name
    }


def test_the_guide_s_code_for_a_server_asks(played: Played) -> None:
    played.says = [SAYS]
    (code,) = re.findall(r"```javascript\n(.*?)```", GUIDE, re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", played.url)
    command = [NODE, "--input-type=module", "--eval", code]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("It is warm.\nstop\n", "")
