"""The simulated DeepSeek, on real sockets: its wire format, every scenario, every ledger claim."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

import chatproxy.simulated
from chatproxy.simulated import Ledger, Scenario, SimulatedDeepSeek
from chatproxy.simulated import connection as connection_module
from chatproxy.simulated import ledger as ledger_module
from chatproxy.simulated.scenario import WrongScenario
from chatproxy.simulated.script import ANSWER, THOUGHT

from .support.another import Another
from .support.servers import Client
from .support.waiting import PATIENCE, wait_for

T = TypeVar("T")


class Running:
    """A server in a thread of its own, and its ledger as read over HTTP."""

    def __init__(self, **options: Any) -> None:
        self.verify: str | None = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.server = SimulatedDeepSeek(**options)
        self.run(self.server.start())
        self.url, self.port = self.server.url, self.server.port

    def call(self, function: Callable[[], T]) -> T:
        async def called() -> T:
            return function()

        result: T = self.run(called())
        return result

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def close(self) -> None:
        self.run(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    def answering(self) -> int:
        """How many requests have a task at work on them."""
        tasks = self.call(lambda: asyncio.all_tasks(self.loop))
        return sum(1 for task in tasks if "respond" in repr(task.get_coro()))

    def ledger(self, tag: str | None = None) -> dict[str, Any]:
        query = {} if tag is None else {"tag": tag}
        seen: dict[str, Any] = self.request("GET", "/ledger", params=query).json()
        return seen

    def entry(self, tag: str) -> dict[str, Any]:
        """The one request with this tag, once the ledger has it."""
        (entry,) = wait_for(lambda: self.ledger(tag)["requests"])
        return dict(entry)

    def over(self, tag: str) -> dict[str, Any]:
        """The one request with this tag, once it has ended."""
        return wait_for(lambda: None if (e := self.entry(tag))["open"] else e)

    def gone(self, tag: str) -> dict[str, Any]:
        """The one request with this tag, once its peer has gone."""
        return wait_for(lambda: e if (e := self.entry(tag))["peer_gone_how"] else None)

    def request(
        self, method: str = "POST", path: str = "/chat/completions", **options: Any
    ) -> requests.Response:
        options = {"timeout": 5, "allow_redirects": False, "verify": self.verify, **options}
        return requests.request(method, f"{self.url}{path}", **options)

    def post(self, stream: bool = True, **simulate: Any) -> requests.Response:
        return self.request(json=payload(stream=stream, simulate=simulate), stream=stream)


def payload(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Good morning"}]
    return {"model": "deepseek-flash", "messages": messages, "stream": True, **fields}


def events(body: bytes) -> list[Any]:
    """The data of the events in ``body``, comments left out, ``[DONE]`` as that text."""
    blocks = [block for block in body.decode().split("\n\n") if block.startswith("data: ")]
    return [d if (d := block[6:]) == "[DONE]" else json.loads(d) for block in blocks]


def deltas(body: bytes, kind: str) -> list[str]:
    chunks = [event for event in events(body) if isinstance(event, dict)]
    return [text for c in chunks if (text := c["choices"][0]["delta"].get(kind))]


class Peer(Client):
    """A client that sees every byte: it sends one request and reads as little as it is told to."""

    def __init__(
        self,
        running: Running,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        super().__init__(running.port, receive_buffer)
        if tls:
            self.socket = tls.wrap_socket(
                self.socket, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            )

    def ask(self, *, version: str = "1.1", **simulate: Any) -> Peer:
        body = json.dumps(payload(simulate=simulate)).encode()
        head = f"POST /chat/completions HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}"
        self.send(head.encode() + b"\r\n\r\n" + body)
        return self

    def rest(self) -> bytes:
        """Everything that came, once the server has closed."""
        while data := self.socket.recv(65536):
            self.received += data
        return self.received

    def hears_nothing(self, seconds: float = 0.15) -> bool:
        """Whether nothing comes for a while, not even the end."""
        self.socket.settimeout(seconds)
        try:
            self.received += self.socket.recv(65536)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def running() -> Iterator[Running]:
    with contextlib.closing(Running()) as running:
        yield running


@pytest.fixture(scope="module")
def client_tls(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


@pytest.fixture
def running_tls(certificate: Path, ca_file: str) -> Iterator[Running]:
    certfile, keyfile = (str(certificate / name) for name in ("cert.pem", "key.pem"))
    with contextlib.closing(Running(certfile=certfile, keyfile=keyfile)) as running:
        running.verify = ca_file
        yield running


# The wire format


def test_the_public_names_are_these() -> None:
    assert chatproxy.simulated.__all__ == ["Ledger", "Scenario", "SimulatedDeepSeek", "serve"]


def test_a_stream_is_that_of_deepseek(running: Running) -> None:
    """Its headers, each chunk's fields, the reason and the usage in the last, and then done."""
    answer = running.post(tokens=3, reasoning_tokens=2, rate=0)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Connection"] == "keep-alive"
    assert answer.content.endswith(b"data: [DONE]\n\n")
    *before, last, done = events(answer.content)
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in [*before, last]}) == 1
    for chunk in [*before, last]:
        assert list(chunk) == [
            *("id", "object", "created", "model"),
            *("system_fingerprint", "choices", "usage"),
        ]
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == "deepseek-flash"
        assert list(chunk["choices"][0]) == ["index", "delta", "logprobs", "finish_reason"]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["completion_tokens"] == 5
    assert last["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 5
    assert {event["choices"][0]["finish_reason"] for event in before} == {None}
    assert {event["usage"] for event in before} == {None}


def test_thinking_is_the_default_and_reasoning_comes_before_content(running: Running) -> None:
    seen = events(running.post(tokens=3, reasoning_tokens=2, rate=0).content)
    spoken = [event["choices"][0]["delta"] for event in seen[:-1]]
    assert spoken[0] == {"role": "assistant", "content": None, "reasoning_content": ""}
    assert spoken[1] == {"content": None, "reasoning_content": "amber "}
    assert spoken[3] == {"content": "amber ", "reasoning_content": None}
    assert [bool(d["reasoning_content"]) for d in spoken[1:-1]] == [True, True, False, False, False]


def test_plain_mode_says_nothing_of_reasoning(running: Running) -> None:
    body = payload(
        thinking={"type": "disabled"}, simulate={"tokens": 2, "reasoning_tokens": 5, "rate": 0}
    )
    answer = running.request(path="/v1/chat/completions", json=body)
    assert b"reasoning_content" not in answer.content
    assert deltas(answer.content, "content") == ["amber ", "birch "]
    assert events(answer.content)[0]["choices"][0]["delta"]["role"] == "assistant"


def test_max_tokens_cuts_reasoning_and_content_and_says_length(running: Running) -> None:
    body = payload(max_tokens=4, simulate={"tokens": 9, "reasoning_tokens": 3, "rate": 0})
    answer = running.request(json=body)
    assert len(deltas(answer.content, "reasoning_content")) == 3
    assert len(deltas(answer.content, "content")) == 1
    assert events(answer.content)[-2]["choices"][0]["finish_reason"] == "length"


def test_it_calls_tools_until_it_has_a_result(running: Running) -> None:
    calls = [{"name": "add", "arguments": {"a": 1, "b": [2]}}, {"name": "look", "arguments": {}}]
    fields = {"tools": [{}], "simulate": {"rate": 0, "tool_calls": calls, "text": "Three."}}

    def ask(*messages: dict[str, Any], **others: Any) -> list[Any]:
        asked = payload(**{**fields, **others})
        asked["messages"] += messages
        answer = running.request(json=asked)
        return events(answer.content)[:-1]

    chunks = [each["choices"][0] for each in ask()]
    assert chunks[-1]["finish_reason"] == "tool_calls"
    pieces = [piece for chunk in chunks for piece in chunk["delta"].get("tool_calls", [])]
    made: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        call = made.setdefault(piece["index"], {"name": piece["function"].get("name"), "said": ""})
        call["said"] += piece["function"]["arguments"]
    assert [{"name": c["name"], "arguments": json.loads(c["said"])} for c in made.values()] == calls
    assert len({piece["id"] for piece in pieces if "id" in piece}) == 2
    for answer in (
        ask({"role": "tool", "content": "3"}),
        ask(tool_choice="none"),
        ask(tools=[]),
    ):
        assert "Three." in "".join(
            each["choices"][0]["delta"].get("content") or "" for each in answer
        )


def test_who_directs_it_sees_each_question_and_may_change_it() -> None:
    seen = []

    def direct(asked: dict[str, Any]) -> dict[str, Any]:
        seen.append(asked)
        return {**asked, "simulate": {"text": "Directed.", "tag": "directed", "rate": 0}}

    with contextlib.closing(Running(direct=direct)) as running:
        assert deltas(running.post(text="x").content, "content")[:1] == ["Directed."]
        assert seen[0]["simulate"] == {"text": "x"}
        assert running.ledger("directed")["requests"]


def test_without_a_scenario_it_says_plainly_that_it_is_a_simulation(running: Running) -> None:
    answer = running.post(rate=0)
    assert "".join(deltas(answer.content, "content")) == ANSWER.text
    assert "".join(deltas(answer.content, "reasoning_content")) == THOUGHT.text
    assert "simulation" in ANSWER.text
    assert "☕" in answer.content.decode()


def test_an_answer_that_is_not_streamed_is_one_json_document(running: Running) -> None:
    answer = running.post(stream=False, tokens=2, reasoning_tokens=1, tag="whole")
    said = answer.json()
    assert said["object"] == "chat.completion"
    assert said["choices"][0]["message"] == {
        "role": "assistant",
        "content": "amber birch ",
        "reasoning_content": "amber ",
    }
    assert said["usage"]["completion_tokens"] == 3
    entry = running.over("whole")
    assert (entry["finished"], entry["tokens"]) == (True, 3)


@pytest.mark.parametrize(("key", "is_available"), [("any", True), ("broke", False)])
def test_models_and_balance_are_there(running: Running, key: str, is_available: bool) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    models = running.request("GET", "/models", headers=headers).json()
    assert [row["id"] for row in models["data"]] == ["deepseek-flash", "deepseek-v4-pro"]
    balance = running.request("GET", "/user/balance", headers=headers).json()
    assert balance["is_available"] is is_available


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        *(({"model": each}, 400) for each in ["deepseek-chat", "deepseek-reasoner", "gpt-9"]),
        *(({"model": each}, 400) for each in [None, 7, []]),
        ({"messages": []}, 400),
        ({"messages": ["x"]}, 400),
        ({"messages": None}, 400),
        ({"stream": False, "stream_options": {"include_usage": True}}, 400),
        ({"stream": "yes"}, 422),
        ({"max_tokens": 0}, 422),
        ({"max_tokens": True}, 422),
        ({"thinking": {"type": "maybe"}}, 422),
        ({"thinking": True}, 422),
        *((body, 400) for body in [b"", b"{", b"[]", b"\xff", b"[" * 100_000]),
    ],
)
def test_a_wrong_model_parameter_or_body_is_refused(
    running: Running, fields: dict[str, Any] | bytes, status: int
) -> None:
    body = fields if isinstance(fields, bytes) else json.dumps(payload(**fields))
    answer = running.request(data=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("key", "status", "message"),
    [
        ("invalid", 401, "Authentication Fails, Your api key: ****alid is invalid"),
        ("broke", 402, "Insufficient Balance"),
    ],
)
def test_two_keys_are_refused_as_deepseek_refuses_them(
    running: Running, key: str, status: int, message: str
) -> None:
    answer = running.request(
        json=payload(simulate={"tag": key}),
        headers={"Authorization": f"Bearer {key}"},
    )
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["message"] == message
    assert (error["param"], error["code"]) == (None, "invalid_request_error")
    assert running.over(key)["status"] == status


def test_an_unknown_path_is_404_and_a_wrong_method_is_405(running: Running) -> None:
    assert running.request("GET", "/nothing").status_code == 404
    answer = running.request("GET", "/chat/completions")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert running.request("HEAD", "/chat/completions").status_code == 405


def test_what_is_not_http_gets_a_400_and_is_hung_up_on(running: Running) -> None:
    peer = Peer(running)
    peer.socket.sendall(b"good morning\r\n\r\n")
    assert peer.rest().startswith(b"HTTP/1.1 400 ")


def test_a_connection_serves_one_request_after_another(running: Running) -> None:
    with requests.Session() as session:
        for _ in range(3):
            body = payload(simulate={"tokens": 2, "rate": 0})
            answer = session.post(f"{running.url}/chat/completions", json=body, timeout=5)
            assert answer.content.endswith(b"data: [DONE]\n\n")
        assert running.ledger()["connections"] == {"accepted": 1, "open": 1}


def test_a_token_is_not_held_back_until_the_one_before_is_acknowledged(running: Running) -> None:
    """Nagle's algorithm is off: with it, requests that follow each other take 40 ms each."""
    times = []
    with requests.Session() as session:
        for _ in range(15):
            began = time.monotonic()
            session.get(f"{running.url}/models", timeout=5)
            times.append(time.monotonic() - began)
    assert min(times[5:]) < 0.03  # the first few are acknowledged at once in any case


def test_a_request_sent_ahead_is_answered_after_the_one_before(running: Running) -> None:
    peer = Peer(running).ask(text="One.", rate=0).ask(text="Two.", rate=0)
    assert b"One." in peer.read_until(b"Two.").partition(b"[DONE]")[0]


def test_a_client_of_http_1_0_gets_a_body_without_chunks_that_ends_with_the_connection(
    running: Running,
) -> None:
    head, _, body = Peer(running).ask(version="1.0", tokens=2, rate=0).rest().partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert deltas(body, "content") == ["amber ", "birch "]
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(running: Running) -> None:
    peer = Peer(running)
    body = json.dumps(payload(simulate={"tokens": 1, "rate": 0})).encode()
    head = f"POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    peer.socket.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
    peer.read_until(b"HTTP/1.1 100 ")
    peer.socket.sendall(body)
    peer.read_until(b"[DONE]")


# Scenarios


@pytest.mark.parametrize(
    "simulate",
    [
        [],
        "fast",
        {"rat": 3},
        {"tag": ""},
        {"tag": "a\nb"},
        {"tool_calls": []},
        {"tool_calls": [{"name": "x"}]},
        {"tool_calls": [{"name": "x", "arguments": "{}"}]},
        {"rate": -1},
        {"rate": "30"},
        {"rate": True},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"tokens": 1.5},
        {"tokens": -1},
        {"never": "ever"},
        {"status": 200},
        {"end": "badly"},
        {"huge_event": 10},
        {"redirect": "http://x\r\nSet-Cookie: y"},
        {"line_ending": "\n"},
        {"gzip": 1},
        {"retry_after": 1},
        {"fail_times": 1, "tag": "x"},
        {"fail_times": 1, "status": 500},
        {"disconnect_times": 1},
        {"end_after": 3},
        {"silence_after": 3, "end": "cut"},
        {"bad_chunking": True, "end": "cut"},
    ],
)
def test_a_scenario_that_cannot_be_followed_is_refused_with_a_message_that_says_why(
    running: Running, simulate: object
) -> None:
    with pytest.raises(WrongScenario) as wrong:
        Scenario.parse(simulate)
    answer = running.request(
        data=json.dumps(payload(simulate=simulate)),
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == str(wrong.value)


def test_a_refused_scenario_still_shows_its_tag_in_the_ledger(running: Running) -> None:
    running.post(tag="odd", rat=3)
    assert running.over("odd")["status"] == 400


def test_no_scenario_and_fields_that_are_null_are_the_defaults() -> None:
    assert Scenario.parse(None) == Scenario.parse({}) == Scenario.parse({"status": None})


def test_the_rate_is_kept(running: Running) -> None:
    began = time.monotonic()
    assert len(deltas(running.post(tokens=11, rate=50).content, "content")) == 11
    assert 0.19 < time.monotonic() - began < 2


def test_rate_0_is_as_fast_as_the_peer_reads(running: Running) -> None:
    answer = running.post(tokens=20_000, rate=0, tag="fast")
    assert len(deltas(answer.content, "content")) == 20_000
    assert running.over("fast")["tokens"] == 20_000


def test_generation_waits_for_a_peer_that_does_not_read(running: Running) -> None:
    peer = Peer(running, receive_buffer=65536).ask(tokens=10_000_000, rate=0, tag="full")
    made = stalled(running, "full")
    assert running.entry("full")["open"]
    wait_for(lambda: peer.socket.recv(1 << 20) and running.entry("full")["tokens"] > made)


def test_headers_delay_holds_the_headers_back(running: Running) -> None:
    began = time.monotonic()
    peer = Peer(running).ask(headers_delay=0.2, tokens=1, rate=0)
    peer.read_until(b"\r\n\r\n")
    assert time.monotonic() - began >= 0.2


def test_keep_alives_come_from_the_headers_on_until_the_first_token(running: Running) -> None:
    answer = running.post(first_token_delay=0.5, keep_alive_every=0.1, tokens=1, rate=0)
    comments, _, rest = answer.content.partition(b"data: ")
    assert comments.count(b": keep-alive\n\n") >= 3
    assert comments == b": keep-alive\n\n" * comments.count(b":")
    assert b"keep-alive" not in rest
    # The first of them does not wait.
    Peer(running).ask(first_token_delay=3600, keep_alive_every=1000).read_until(b": keep-alive\n\n")


@pytest.mark.parametrize(
    ("simulate", "last", "status", "tokens"),
    [
        ({"never": "headers"}, b"", None, 0),
        ({"never": "tokens"}, b"\r\n\r\n", 200, 0),
        ({"silence_after": 3, "tokens": 10, "rate": 0}, b'"content":"cloud "', 200, 3),
    ],
)
def test_a_silence_has_no_end_and_leaves_the_connection_open(
    running: Running, simulate: dict[str, Any], last: bytes, status: int | None, tokens: int
) -> None:
    peer = Peer(running).ask(tag="hush", **simulate)
    running.entry("hush")
    peer.read_until(last)
    assert peer.hears_nothing()
    entry = running.entry("hush")
    assert (entry["status"], entry["tokens"]) == (status, tokens)
    assert (entry["open"], entry["finished"]) == (True, False)


def test_without_tokens_there_may_be_keep_alives(running: Running) -> None:
    peer = Peer(running).ask(never="tokens", keep_alive_every=0.01)
    assert b"data:" not in peer.read_until(b"e\r\n: keep-alive\n\n\r\n" * 5)


@pytest.mark.parametrize("status", [400, 401, 402, 422, 429, 500, 503, 418])
def test_an_error_status_comes_with_its_body(running: Running, status: int) -> None:
    answer = running.post(status=status)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in answer.headers
    error = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]


def test_retry_after_is_a_header_of_the_error(running: Running) -> None:
    assert running.post(status=429, retry_after=2).headers["Retry-After"] == "2"
    assert running.post(status=503, retry_after=0.25).headers["Retry-After"] == "0.25"


def test_fail_times_counts_the_requests_of_its_tag(running: Running) -> None:
    def status(tag: str) -> int:
        return running.post(tag=tag, status=503, fail_times=2, tokens=1, rate=0).status_code

    assert [status("a"), status("b"), status("a"), status("a")] == [503, 503, 503, 200]


def test_disconnect_times_hangs_up_without_an_answer(running: Running) -> None:
    for _ in range(2):
        assert Peer(running).ask(tag="x", disconnect_times=2, tokens=1).rest() == b""
    answer = running.post(tag="x", disconnect_times=2, tokens=1, rate=0)
    assert answer.content.endswith(b"[DONE]\n\n")
    first, _, third = wait_for(
        lambda: e if (e := running.ledger("x")["requests"])[-1]["finished"] else None
    )
    assert (first["status"], first["open"], first["peer_gone_how"]) == (None, False, None)
    assert third["status"] == 200


def test_end_finish_is_whole_and_end_eof_is_not_both_without_done(running: Running) -> None:
    body = running.post(end="finish", tokens=1, rate=0, tag="finish").content
    assert b'"finish_reason":"stop"' in body
    assert b"[DONE]" not in body
    assert running.over("finish")["finished"]
    peer = Peer(running).ask(end="eof", end_after=2, tokens=9, rate=0, tag="eof")
    _, body = peer.read_answer()
    assert deltas(body, "content") == ["amber ", "birch "]
    assert b"[DONE]" not in body
    entry = running.over("eof")
    assert (entry["finished"], entry["tokens"]) == (False, 2)
    peer.ask(tokens=1, rate=0).read_until(b"[DONE]")


def test_end_error_reports_an_error_amid_the_answer(running: Running) -> None:
    body = running.post(end="error", end_after=1, tokens=9, rate=0).content
    answer, _, last = body.rpartition(b"data: ")
    assert deltas(answer, "content") == ["amber "]
    assert json.loads(last)["error"]["type"] == "server_error"
    assert b"[DONE]" not in body


@pytest.mark.parametrize(
    ("end", "last"), [("hold", b"}\n\n\r\n"), ("bare", b"\r\ndata: [DONE]\r\n")]
)
def test_end_hold_and_end_bare_leave_the_connection_open(
    running: Running, end: str, last: bytes
) -> None:
    peer = Peer(running).ask(end=end, tokens=1, rate=0, tag=end)
    peer.read_until(b"total_tokens")
    assert peer.read_until(last).endswith(last)
    assert running.entry(end)["open"]


def test_in_place_of_a_stream_there_may_be_json_or_a_page(running: Running) -> None:
    json_answer, page = running.post(instead="json"), running.post(instead="html")
    assert (json_answer.status_code, page.status_code) == (200, 200)
    assert json_answer.headers["Content-Type"] == "application/json"
    assert json_answer.json()["error"]["message"]
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<html>" in page.text


def test_end_cut_closes_in_the_middle_of_an_event_and_of_a_chunk(running: Running) -> None:
    raw = Peer(running).ask(end="cut", end_after=1, tokens=9, rate=0, tag="cut").rest()
    size, _, begun = raw.rpartition(b"\r\n")
    assert begun.startswith(b"data: {")
    assert 0 < len(begun) < int(size.rpartition(b"\n")[2], 16)
    assert not running.over("cut")["finished"]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        _ = running.post(end="cut", rate=0).content


def test_end_reset_is_a_reset(running: Running) -> None:
    peer = Peer(running).ask(end="reset", end_after=2, tokens=9, rate=0, tag="rst")
    with pytest.raises(ConnectionResetError):
        peer.rest()
    assert b"birch" in peer.received
    entry = running.over("rst")
    assert (entry["finished"], entry["peer_gone_how"], entry["tokens"]) == (False, None, 2)


def test_garbage_is_so_many_bytes_and_the_same_ones_each_time(running: Running) -> None:
    first, second = (running.post(garbage=100_000, tag="noise").content for _ in range(2))
    assert len(first) == 100_000
    assert first == second
    assert b"data: " not in first


def test_bad_chunking_comes_after_some_tokens(running: Running) -> None:
    answer = running.post(bad_chunking=True, end_after=2, rate=0, tokens=9, tag="bad")
    received: list[bytes] = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        received.extend(answer.iter_content(None))
    assert deltas(b"".join(received), "content") == ["amber ", "birch "]
    answer.close()
    assert running.gone("bad")["tokens"] == 2


def test_gzip_is_flushed_with_each_event_and_a_complete_file_in_the_end(running: Running) -> None:
    answer, plain = running.post(gzip=True, silence_after=2, tokens=9, rate=0), b""
    pieces = answer.iter_content(None)
    while b"birch" not in plain:
        plain += next(pieces)
    assert answer.headers["Content-Encoding"] == "gzip"
    answer.close()
    _, whole = Peer(running).ask(gzip=True, tokens=2, rate=0).read_answer()
    assert deltas(gzip.decompress(whole), "content") == ["amber ", "birch "]


def test_a_huge_event_has_exactly_its_size_and_normal_ones_follow(running: Running) -> None:
    answer = running.post(huge_event=1_000_000, tokens=1, rate=0, tag="huge")
    first, _, rest = answer.content.partition(b"\n\n")
    assert len(first) + 2 == 1_000_000
    assert json.loads(first[6:])["choices"][0]["delta"]["content"].startswith("xxx")
    assert deltas(rest, "content") == ["amber "]
    assert running.over("huge")["tokens"] == 1


def test_a_trickle_is_one_byte_at_a_time(running: Running) -> None:
    peer = Peer(running).ask(trickle=1e-6, tokens=1, rate=0)
    _, body = peer.read_answer()
    assert b"\r\n\r\n1\r\nd\r\n1\r\na\r\n1\r\nt\r\n" in peer.received
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_redirect_is_a_307_with_its_location(running: Running) -> None:
    answer = running.post(redirect="http://127.0.0.1:1/elsewhere", tag="away")
    assert answer.status_code == 307
    assert answer.headers["Location"] == "http://127.0.0.1:1/elsewhere"
    assert running.over("away")["status"] == 307


@pytest.mark.parametrize(("name", "ending"), [("crlf", b"\r\n"), ("cr", b"\r"), ("lf", b"\n")])
def test_lines_end_as_asked(running: Running, name: str, ending: bytes) -> None:
    body = running.post(
        line_ending=name, tokens=1, rate=0, first_token_delay=0.01, keep_alive_every=1
    ).content
    assert body.startswith(b": keep-alive" + ending * 2)
    assert body.endswith(b"data: [DONE]" + ending * 2)
    assert set(body) & set(b"\r\n") == set(ending)


# The ledger


def test_an_entry_has_these_fields_and_no_key(running: Running) -> None:
    before = time.time(), time.monotonic()
    running.request(
        json=payload(simulate={"tag": "full", "tokens": 2, "rate": 0}),
        headers={"Authorization": "Bearer sk-very-secret", "Accept-Encoding": "identity"},
    )
    entry = running.over("full")
    after = time.time(), time.monotonic()
    assert before[0] <= entry.pop("received_at") <= after[0]
    assert before[1] <= entry.pop("received_mono") <= entry.pop("last_token_mono") <= after[1]
    assert entry.pop("number") > 0
    assert float(entry.pop("billed")) > 0
    assert entry == {
        "tag": "full",
        "method": "POST",
        "path": "/chat/completions",
        "model": "deepseek-flash",
        "authorization": True,
        "accept_encoding": "identity",
        "status": 200,
        "prompt_tokens": 7,
        "cached_tokens": 0,
        "tokens": 2,
        "finished": True,
        "peer_gone_at": None,
        "peer_gone_mono": None,
        "peer_gone_how": None,
        "open": False,
    }
    assert "secret" not in json.dumps(running.ledger())


def test_the_ledger_can_be_asked_for_one_tag_and_can_be_erased(running: Running) -> None:
    for tag in ("a", "b & c", "a"):
        running.post(tag=tag, tokens=1, rate=0)
    assert len(running.ledger("a")["requests"]) == 2
    assert [e["tag"] for e in running.ledger("b & c")["requests"]] == ["b & c"]
    assert [e["tag"] for e in running.ledger()["requests"]] == ["a", "b & c", "a"]
    assert running.request("DELETE", "/ledger").status_code == 200
    assert running.ledger()["requests"] == []
    assert running.ledger()["connections"]["accepted"] == 0


def test_text_that_utf_8_does_not_have_does_not_break_the_ledger(running: Running) -> None:
    body = json.dumps(payload(model="\ud800", simulate={"tag": "\udfff"}))
    running.request(data=body)
    (entry,) = running.ledger()["requests"]
    assert (entry["tag"], entry["model"], entry["status"]) == ("\udfff", "\ud800", 400)


def test_looking_over_a_connection_of_the_api_leaves_it_counted(running: Running) -> None:
    with requests.Session() as session:
        session.get(f"{running.url}/models", timeout=5)
        seen = session.get(f"{running.url}/ledger", timeout=5).json()
    assert seen["connections"] == {"accepted": 1, "open": 1}
    assert [entry["path"] for entry in seen["requests"]] == ["/models"]


@pytest.mark.parametrize("server", ["running", "running_tls"])
def test_a_connection_that_never_sends_a_byte_is_counted(
    request: pytest.FixtureRequest, server: str
) -> None:
    """With TLS, its handshake never ends. It stays counted when the ledger is erased."""
    running: Running = request.getfixturevalue(server)
    peer = Peer(running)
    wait_for(lambda: running.ledger()["connections"] == {"accepted": 1, "open": 1})
    running.request("DELETE", "/ledger")
    assert running.ledger()["connections"] == {"accepted": 0, "open": 1}
    peer.leave()
    wait_for(lambda: running.ledger()["connections"] == {"accepted": 0, "open": 0})


def test_a_look_that_began_before_an_erasure_does_not_make_a_count_negative() -> None:
    ledger = Ledger()
    looking = ledger.connection()
    ledger.erase()
    looking.take_back()
    looking.closed()
    assert ledger.as_json()["connections"] == {"accepted": 0, "open": 0}


def test_the_ledger_keeps_the_newest_and_counts_attempts_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "CAPACITY", 3)
    ledger = Ledger()
    for n in range(5):
        ledger.request("GET", f"/{n}", authorization=False, accept_encoding=None)
        assert ledger.attempt(str(n)) == 1
    assert [e["path"] for e in ledger.as_json()["requests"]] == ["/2", "/3", "/4"]
    assert (ledger.attempt("4"), ledger.attempt("0")) == (2, 1)


PHASES: dict[str, tuple[dict[str, Any], bytes]] = {
    "before the headers": ({"never": "headers"}, b""),
    "in the delay of the headers": ({"headers_delay": 3600}, b""),
    "before the first token": ({"never": "tokens"}, b"\r\n\r\n"),
    "between keep-alives": ({"never": "tokens", "keep_alive_every": 3600}, b"keep-alive\n"),
    "in mid-stream": ({"tokens": 100_000, "rate": 100}, b"birch"),
    "in a stream at full speed": ({"tokens": 10_000_000, "rate": 0}, b"birch"),
    "in a silence": ({"silence_after": 2, "tokens": 9, "rate": 0}, b"birch"),
    "in a trickle": ({"trickle": 0.01}, b"1\r\nd\r\n"),
}
SENDING = {"in mid-stream", "in a stream at full speed", "in a trickle"}


#: How a peer may leave.
WAYS = ["fin", "rst", "tls close_notify", "tls fin", "tls rst"]


def leaving(request: pytest.FixtureRequest, way: str) -> tuple[Running, ssl.SSLContext | None, str]:
    """A server, what a client needs to speak TLS with it, and how the client is to leave."""
    secured, _, how = way.rpartition(" ")
    running = request.getfixturevalue("running_tls" if secured else "running")
    return running, request.getfixturevalue("client_tls") if secured else None, how


def depart(peer: Peer, how: str) -> None:
    """Leave: politely, without a word of TLS, or with a reset."""
    if how == "close_notify":
        assert isinstance(peer.socket, ssl.SSLSocket)
        peer.socket.settimeout(0.05)
        with contextlib.suppress(OSError):
            peer.socket.unwrap()
    if how == "rst":
        peer.reset()
    peer.leave()


@pytest.mark.parametrize(
    ("phase", "way"),
    [(p, way) for p in PHASES for way in WAYS if "tls" not in way or "full speed" not in p],
)
def test_a_peer_that_goes_away_is_noticed_at_once(
    request: pytest.FixtureRequest, phase: str, way: str
) -> None:
    """In every phase; nothing is generated afterwards and no task is left."""
    running, tls, how = leaving(request, way)
    simulate, mark = PHASES[phase]
    peer = Peer(running, tls=tls).ask(tag="leaver", **simulate)
    running.entry("leaver")
    peer.read_until(mark)
    assert running.entry("leaver")["open"]
    left = time.monotonic()
    depart(peer, how)
    entry = running.gone("leaver")
    # To close with something unread, such as a ticket of TLS 1.3, is to reset: it may be either.
    told = "reset" if how == "rst" else "closed"
    assert entry["peer_gone_how"] == told or phase in SENDING or tls
    assert left <= entry["peer_gone_mono"] < left + 1
    assert abs(entry["peer_gone_at"] - time.time()) < PATIENCE
    assert (entry["open"], entry["finished"]) == (False, False)
    assert (entry["last_token_mono"] or 0) <= entry["peer_gone_mono"]
    wait_for(lambda: running.answering() == 0)
    assert running.entry("leaver")["tokens"] == entry["tokens"]
    wait_for(lambda: running.ledger()["connections"]["open"] == 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_that_goes_away_is_noticed_while_it_does_not_read(
    request: pytest.FixtureRequest, way: str
) -> None:
    running, tls, how = leaving(request, way)
    peer = Peer(running, tls=tls, receive_buffer=4096).ask(tokens=10_000_000, rate=0, tag="stuffed")
    stalled(running, "stuffed")
    if way == "fin":
        # With so much unread a close would be a reset; this is its FIN alone.
        peer.socket.shutdown(socket.SHUT_WR)
    else:
        depart(peer, how)
    entry = running.gone("stuffed")
    assert entry["peer_gone_how"] == ("reset" if how == "rst" else "closed") or tls
    assert entry["finished"] is False
    assert running.answering() == 0


def stalled(running: Running, tag: str) -> int:
    """The tokens made for this peer, once the server has no more room to write to it."""
    made = [-1]

    def stands_still() -> bool:
        made.append(running.entry(tag)["tokens"])
        return made[-1] == made[-2] > 0

    wait_for(stands_still)
    return made[-1]


def test_a_peer_that_goes_away_in_the_middle_of_its_request_is_noticed(running: Running) -> None:
    peer = Peer(running)
    peer.socket.sendall(b"POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    wait_for(lambda: running.ledger()["requests"])
    peer.leave()
    (entry,) = wait_for(
        lambda: [e for e in running.ledger()["requests"] if e["peer_gone_how"] == "closed"]
    )
    assert (entry["status"], entry["tag"], entry["open"]) == (None, None, False)


def test_a_peer_that_leaves_after_its_answer_has_not_gone_from_it(running: Running) -> None:
    peer = Peer(running).ask(tokens=1, rate=0, tag="polite")
    peer.read_until(b"\r\n0\r\n\r\n")
    peer.leave()
    wait_for(lambda: running.ledger()["connections"] == {"accepted": 1, "open": 0})
    entry = running.over("polite")
    assert (entry["finished"], entry["peer_gone_how"]) == (True, None)


def test_an_answer_that_the_peer_has_not_taken_is_not_finished(running: Running) -> None:
    """Written means that the kernel has it all, and here it cannot have it all."""
    size = 32 * 1024 * 1024
    peer = Peer(running, receive_buffer=65536).ask(huge_event=size, tokens=0, tag="unread")
    wait_for(lambda: running.entry("unread")["status"] == 200)
    assert running.entry("unread")["finished"] is False
    peer.read_until(b"[DONE]")
    assert running.over("unread")["finished"] is True


def test_too_much_sent_ahead_ends_the_connection(running: Running) -> None:
    peer = Peer(running).ask(never="headers", tag="pushy")
    running.entry("pushy")
    with contextlib.suppress(OSError):
        peer.socket.sendall(b"x" * 4_000_000)
    wait_for(lambda: not running.entry("pushy")["open"])


def test_two_hundred_streams_at_once_each_have_their_entry(running: Running) -> None:
    peers = [Peer(running).ask(tokens=10, rate=100, tag=f"crowd {n}") for n in range(200)]
    assert running.ledger()["connections"]["accepted"] >= 200
    for peer in peers:
        peer.read_until(b"[DONE]")
        peer.leave()
    wait_for(lambda: all(entry["finished"] for entry in running.ledger()["requests"]))
    seen = running.ledger()["requests"]
    assert {entry["tokens"] for entry in seen} == {10}
    assert {entry["tag"] for entry in seen} == {f"crowd {n}" for n in range(200)}


def test_a_body_that_is_too_large_is_refused_before_it_has_all_come(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_BODY", 1000)
    peer = Peer(running)
    head = "POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
    peer.socket.sendall(head.encode() + b"x" * 1001)
    assert b"413 " in peer.rest()
    (entry,) = running.ledger()["requests"]
    assert (entry["status"], entry["open"], entry["peer_gone_how"]) == (413, False, None)


def test_a_mistake_in_an_answer_is_reported_and_ends_that_connection_alone(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    reports: list[dict[str, Any]] = []
    running.call(lambda: running.loop.set_exception_handler(lambda _, told: reports.append(told)))
    with monkeypatch.context() as patch:
        patch.setattr(connection_module, "respond", mistaken)
        assert Peer(running).ask(tokens=1).rest() == b""
    assert [type(told["exception"]) for told in reports] == [ZeroDivisionError]
    (entry,) = running.ledger()["requests"]
    assert (entry["open"], entry["finished"], entry["peer_gone_how"]) == (False, False, None)


# TLS


def test_tls_serves_a_client_that_verifies(running_tls: Running) -> None:
    assert running_tls.url.startswith("https://127.0.0.1:")
    answer = running_tls.post(tokens=200, rate=0)
    assert len(deltas(answer.content, "content")) == 200


def test_a_handshake_that_fails_leaves_no_connection_open(running_tls: Running) -> None:
    peer = Peer(running_tls)
    with contextlib.suppress(OSError):
        peer.ask(tokens=1).rest()
    wait_for(lambda: running_tls.ledger()["connections"] == {"accepted": 1, "open": 0})


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_with_tls_too_an_answer_can_break_off(
    running_tls: Running, client_tls: ssl.SSLContext, end: str
) -> None:
    peer = Peer(running_tls, tls=client_tls).ask(end=end, end_after=1, tokens=9, rate=0, tag=end)
    broken = pytest.raises(OSError, match=r"reset|EOF")  # ssl tells the one as the other
    with contextlib.nullcontext() if end == "cut" else broken:
        peer.rest()
    assert b"amber" in peer.received
    assert b"[DONE]" not in peer.received
    assert not running_tls.over(end)["finished"]


# Starting and stopping


def test_stop_leaves_no_task_no_socket_and_no_open_entry(running: Running) -> None:
    silent = Peer(running)
    Peer(running).ask(never="headers", tag="mute")
    running.entry("mute")
    Peer(running).ask(never="tokens").read_until(b"\r\n\r\n")
    Peer(running).ask(tokens=100_000).read_until(b"data: ")
    running.run(running.server.stop())
    assert silent.rest() == b""
    assert len(running.call(asyncio.all_tasks)) == 1  # the one that asks
    seen = running.server.ledger.as_json()
    assert seen["connections"] == {"accepted": 4, "open": 0}
    assert [(e["open"], e["peer_gone_how"]) for e in seen["requests"]] == [(False, None)] * 3


def test_stop_ends_a_handshake_under_way(running_tls: Running) -> None:
    peer = Peer(running_tls)
    wait_for(lambda: running_tls.ledger()["connections"]["open"] == 1)
    running_tls.run(running_tls.server.stop())
    assert running_tls.server.ledger.as_json()["connections"] == {"accepted": 1, "open": 0}
    assert peer.rest() == b""


def test_an_address_is_known_only_after_the_start() -> None:
    with pytest.raises(RuntimeError):
        _ = SimulatedDeepSeek().url


def test_a_port_in_use_is_an_error_at_the_start(running: Running) -> None:
    with pytest.raises(OSError, match="in use"):
        running.run(SimulatedDeepSeek(port=running.port).start())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_its_address_and_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    """Also with a stream under way, and with nothing on stderr."""
    server = Another("from chatproxy.simulated import serve; serve('127.0.0.1', 0)")
    port = int(server.read().removeprefix("simulated DeepSeek on http://127.0.0.1:"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("POST", "/chat/completions", json.dumps(payload()))
    assert connection.getresponse().read(6) == b"data: "
    server.process.send_signal(number)
    assert server.rest() == ""
    connection.close()


def test_serve_raises_the_limit_of_open_files() -> None:
    code = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
from chatproxy.simulated import serve
serve("127.0.0.1", 0)
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""
    server = Another(code)
    server.read()
    server.process.terminate()
    assert server.rest() == "True\n"


def test_a_text_of_ones_own_is_told_word_by_word_and_as_often_as_tokens_are_asked(
    running: Running,
) -> None:
    answer = running.post(stream=False, text="one <b>two</b>\nthree").json()
    assert answer["choices"][0]["message"]["content"] == "one <b>two</b>\nthree"
    assert answer["usage"]["completion_tokens"] == 3
    assert not answer["choices"][0]["message"].get("reasoning_content")
    answer = running.post(stream=False, text=" again", tokens=3).json()
    assert answer["choices"][0]["message"]["content"] == " again again again"
