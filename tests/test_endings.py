"""When an answer is whole, when it has failed, and what is no answer at all.

A DeepSeek on a plain socket plays the part that the request names in its field ``play``.
"""

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest import mock

import pytest

import chatproxy.observability.logs  # noqa: F401 - it listens from then on
from chatproxy.answers.log import AnswerLog
from chatproxy.answers.question import Question
from chatproxy.answers.readers import LogReader
from chatproxy.answers.session import Outcome, Phase, Reason, SessionKey
from chatproxy.answers.watchdog import WHOLE_SECONDS, Watchdog
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import Aborted
from chatproxy.upstreams.chunks import ChunkReader

from .support import servers
from .support.scripted import Scripted
from .support.servers import events, new_id
from .support.sessions import new_session
from .support.table import TablePeers, service_of
from .support.waiting import wait_for

KEY = "sk-0123456789abcdef"


def chunk(content="Hi", finish=None, index=0, **more):
    choice = {"index": index, "delta": {"content": content}, "finish_reason": finish}
    return {"choices": [choice], **more}


def event(said, end=b"\n\n", separators=(",", ":")):
    return b"data: " + json.dumps(said, separators=separators).encode() + end


HI = event(chunk())
STOP = event(chunk("", "stop"))
USAGE = event({"choices": [], "usage": {"total_tokens": 3}})
ERROR = {"error": {"message": f"The model\nfell over; key {KEY}.", "type": "server_error"}}
STREAM = b"text/event-stream"

#: What is sent after the head of a 200, and then: the connection stays open ("hold"), the body ends
#: ("end"), the connection breaks ("break"), or what comes at once is no part of the body ("fault").
WHOLE = {
    "finish_reason, then silence": (HI + STOP, "hold"),
    "finish_reason and usage, then silence": (HI + STOP + USAGE, "hold"),
    "finish_reason and comments for ever": (HI + STOP + b": keep-alive\n\n", "drip"),
    "finish_reason with spaces": (HI + event(chunk("", "length"), b"\n\n", None), "hold"),
    "finish_reason, then the end": (HI + STOP, "end"),
    "finish_reason, then a break": (HI + STOP, "break"),
    "finish_reason, then what is no chunk": (HI + STOP, "fault"),
    "done, then silence": (HI + b"data: [DONE]\n\n", "hold"),
    "done with one line end, then silence": (HI + b"data: [DONE]\n", "hold"),
    "done with CRLF, then silence": (HI + b"data: [DONE]\r\n", "hold"),
    "done without a line end, then silence": (HI + b"data: [DONE]", "hold"),
    "done without a space or line end": (HI + b"data:[DONE]", "hold"),
    "done without a line end, then the end": (HI + b"data: [DONE]", "end"),
    "done without a line end, then a break": (HI + b"data: [DONE]", "break"),
    "done, then more": (HI + b"data: [DONE]\n\n" + HI + event(ERROR), "hold"),
    "a last event with one line end": (HI + STOP[:-1], "end"),
    "a last event with one line end, then silence": (HI + STOP[:-1], "hold"),
    "a last event without a line end, then silence": (HI + STOP[:-2], "hold"),
    "a last event without a line end": (HI + STOP[:-2], "end"),
    "a stream without a type": (HI + STOP, "end", None),
    "a stream as plain text": (HI + STOP, "end", b"text/plain; charset=utf-8"),
    "a stream with two types": (HI + STOP, "end", STREAM + b"\r\nContent-Type: " + STREAM),
    "a stream with its type in quotes": (HI + STOP, "end", b'"%b"' % STREAM),
    "a stream with what is no type": (HI + STOP, "end", b"event-stream"),
}
CUT = {
    "no finish_reason, then the end": (HI, "end"),
    "no finish_reason, then a break": (HI, "break"),
    "a finish_reason that is only spoken of": (
        HI + event(chunk('"finish_reason":"stop"')) + event(chunk(finish="")),
        "end",
    ),
    "half of an event with a finish_reason": (HI + STOP[:-5], "end"),
    "half of an event": (HI + HI[:-9], "end"),
    "half of the end": (HI + b"data: [DONE", "end"),
    "an event cut off by a break": (HI + STOP[:-2], "break"),
}
FAILED = {
    "error": HI + event(ERROR),
    "error amid a chunk": HI + event(chunk("", "error", **ERROR)),
    "error in a choice": HI + event({"choices": [{**chunk()["choices"][0], **ERROR}]}),
    "event named error": HI
    + b"event: error\ndata: "
    + json.dumps(ERROR["error"]).encode()
    + b"\n\n",
    "error in a list": HI + event([ERROR]),
    "error by its type": HI + event({**ERROR["error"], "type": "error"}) + b"data: [DONE]\n\n",
    "error after finish_reason": HI + STOP + event(ERROR),
    "error without its line ends": HI + event(ERROR, b""),
    "error, then more": HI + event(ERROR) + STOP + b"data: [DONE]\n\n",
}
FAULT = b"HTTP/1.1 103 Early Hints\r\n\r\n"
DRIPS = {"drip": b": keep-alive\n\n", "blank drip": b"data:\n\nevent: x\ndata: \n\ndata: null\n\n"}
PARTS = {
    **WHOLE,
    **CUT,
    **{name: (body, "end") for name, body in FAILED.items()},
    "first error": (event(ERROR), "hold"),
    "first error 429": (event({"error": {"message": "Slow down.", "code": 429}}), "hold"),
    "first error of the key": (
        event({"error": {"message": "Wrong key sk-01***cdef", "code": "invalid_api_key"}}),
        "hold",
    ),
    "error without a line end, then silence": (HI + event(ERROR, b""), "hold"),
    "half of the first event": (HI[:-9], "end"),
    "text error": (HI + b"event: error\ndata: It broke.\n\n", "hold"),
    "blank": (HI + b"data:\n\ndata: \n\nevent: ping\ndata:\n\ndata: null\n\n", "blank drip"),
    "two choices": (HI + event(chunk("", "stop", 0)) + event(chunk("", "stop", 1)), "end"),
    "one of two choices": (HI + event(chunk("", "stop", 0)), "end"),
    "json": (json.dumps(ERROR).encode(), "end", b"application/json"),
    "json of which the end does not come": (
        json.dumps(ERROR).encode(),
        "hold",
        b"application/json",
    ),
    "json without a type": (json.dumps(ERROR, indent=1).encode(), "end", None),
    "html": (
        b"<html>\n[SSE] forged ended\x1b\xe2\x80\xa8</html>" + KEY.encode(),
        "end",
        b"text/html; about=" + KEY.encode(),
    ),
}


def answer(gone, connection, request):
    """Play the part that is asked for; note in ``gone`` whose connection is used for no other."""
    asked = json.loads(request)
    body, then, *kind = PARTS[asked["play"]]
    content_type = b"Content-Type: %b\r\n" % (kind or [STREAM])[0] if kind != [None] else b""
    connection.sendall(
        b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n%b"
        % (content_type, len(body), body, FAULT if then == "fault" else b"")
    )
    if then == "end":
        connection.sendall(b"0\r\n\r\n")
        return
    if then not in ("break", "fault"):
        drip(connection, DRIPS.get(then, b""))
    connection.close()
    gone.append(asked["tag"])


def drip(connection, piece):
    """Send a chunk again and again until the peer goes away."""
    connection.settimeout(0.05)
    for _ in range(1000):
        if piece:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                return


@pytest.fixture(scope="module")
def stage():
    """The address of that DeepSeek, and the tags of the requests whose peers have gone away."""
    gone = []
    with Scripted(partial(answer, gone)) as upstream:
        yield upstream.url, gone


@pytest.fixture(scope="module")
def proxy(kind, start_proxy, stage):
    return start_proxy(kind, stage[0], CHATPROXY_IDLE_TIMEOUT=1, DEEPSEEK_API_KEY=KEY)


@pytest.fixture
def patient_proxy(kind, start_proxy, stage):
    """One whose idle timer never comes into it."""
    return start_proxy(kind, stage[0], DEEPSEEK_API_KEY=KEY)


def ask(proxy, part, session_id=None, **fields):
    session_id = session_id or new_id()
    return servers.ask(proxy, session_id, play=part, tag=session_id, **fields)


def said(response):
    return [each["data"] for each in events(response.content)]


def sent_in(body):
    """The data of the events that DeepSeek has sent in a body, up to its end."""
    lines = body.partition(b"data: [DONE]")[0].decode().splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


@pytest.fixture(scope="module")
def whole_answers(proxy):
    """The answers by part, all asked for at once: most of them take a while to be seen as whole."""
    with ThreadPoolExecutor(len(WHOLE)) as pool:
        return dict(zip(WHOLE, pool.map(partial(ask, proxy), WHOLE), strict=True))


@pytest.mark.parametrize("part", WHOLE)
def test_an_answer_is_whole_by_its_finish_reason_or_by_done(proxy, whole_answers, part):
    """Whatever comes of its end: then ``[DONE]`` is written once, and nothing is lost.

    And whatever its content type is, if it does not name another format.
    """
    response = whole_answers[part]
    session_id = response.request.headers["X-Session-Id"]
    sent = WHOLE[part][0].replace(USAGE, b"")  # which nobody has asked for
    assert said(response) == [*sent_in(sent), "[DONE]"]
    assert "event:" not in response.text
    assert "outcome=finished phase=streaming" in proxy.closing_line(session_id)


def test_a_whole_answer_is_over_a_few_seconds_before_the_idle_timer(patient_proxy, stage):
    """And its connection, of which the end has not come, is closed."""
    session_id, begun = new_id(), time.monotonic()
    response = ask(patient_proxy, "finish_reason and usage, then silence", session_id)
    assert 2 < time.monotonic() - begun < 10
    assert said(response)[-1] == "[DONE]"
    wait_for(lambda: session_id in stage[1])


@pytest.mark.parametrize("part", CUT)
def test_an_end_without_finish_reason_and_done_is_a_failure(proxy, part):
    """The log tells why. What was cut off amid an event is none for clients, who decode each."""
    session_id = new_id()
    response = ask(proxy, part, session_id)
    *answer, last = events(response.content)
    assert all(json.loads(each["data"])["choices"] for each in answer)
    assert json.loads(last["data"])["error"]["code"] == "upstream_failed"
    assert "[DONE]" not in response.text
    proxy.closing_line(session_id)
    assert len(proxy.reasons(session_id)) == 1


def test_half_of_an_event_is_no_answer(proxy):
    """So it has a status, and another upstream may be asked."""
    response = ask(proxy, "half of the first event")
    assert (response.status_code, response.json()["code"]) == (502, "upstream_failed")


def test_each_choice_that_is_asked_for_has_to_finish(proxy):
    assert said(ask(proxy, "two choices", n=2))[-1] == "[DONE]"
    assert "error" in said(ask(proxy, "one of two choices", n=2))[-1]
    assert said(ask(proxy, "one of two choices"))[-1] == "[DONE]"


@pytest.mark.parametrize("part", FAILED)
def test_an_error_within_an_answer_fails_it(proxy, part):
    """With DeepSeek's own sentence, on one line and without the key, and not as an event too."""
    session_id = new_id()
    response = ask(proxy, part, session_id)
    *answer, last = events(response.content)
    assert last["event"] == "error"
    assert json.loads(last["data"])["error"] == {
        "message": "The model fell over; key ***.",
        "code": "upstream_failed",
    }
    assert response.text.count("fell over") == 1
    assert all("event" not in each for each in answer)
    assert "[DONE]" not in response.text
    assert KEY not in response.text
    assert "outcome=failed phase=streaming" in proxy.closing_line(session_id)
    assert proxy.lines(f"{session_id} failed code=upstream_failed")
    (reason,) = proxy.reasons(session_id)
    assert 'reported an error: {"message": "The model' in reason
    assert KEY not in proxy.log()


def test_an_error_is_not_waited_for_any_longer_than_it_is_whole_and_need_not_be_json(patient_proxy):
    for part, message in (
        ("error without a line end, then silence", "The model fell over; key ***."),
        ("text error", "It broke."),
    ):
        *_, last = events(ask(patient_proxy, part).content)
        assert json.loads(last["data"])["error"]["message"] == message


@pytest.mark.parametrize(
    ("part", "status", "code", "sentence"),
    [
        ("first error", 502, "upstream_failed", "The model fell over; key ***."),
        ("first error 429", 429, "upstream_busy", "DeepSeek is busy; try again later."),
        ("first error of the key", 502, "upstream_auth", "DeepSeek did not accept the key."),
    ],
)
def test_an_error_in_place_of_the_first_event_has_a_status(proxy, part, status, code, sentence):
    response = ask(proxy, part)
    assert (response.status_code, response.json()) == (status, {"error": sentence, "code": code})


@pytest.mark.parametrize(
    "part", ["json", "json of which the end does not come", "json without a type"]
)
def test_json_with_status_200_is_a_failure_that_says_what_it_says(patient_proxy, part):
    proxy, session_id = patient_proxy, new_id()
    response = ask(proxy, part, session_id)
    assert response.status_code == 502
    assert response.json() == {"error": "The model fell over; key ***.", "code": "upstream_failed"}
    proxy.closing_line(session_id)
    (line,) = proxy.reasons(session_id)
    assert "got no event stream with status 200" in line
    assert "fell over" in line
    assert KEY not in proxy.log()


def test_a_page_with_status_200_is_a_failure_and_the_log_says_so_on_one_line(proxy):
    session_id = new_id()
    response = ask(proxy, "html", session_id)
    assert response.status_code == 502
    assert response.json()["error"] == "DeepSeek's answer is not a stream of events."
    assert "outcome=failed" in proxy.closing_line(session_id)
    (line,) = proxy.reasons(session_id)
    assert "got no event stream" in line
    assert "text/html" in line
    assert "<html> [sse] forged ended" in line
    assert line.isprintable()
    assert not [each for each in proxy.log().splitlines() if each.startswith("[SSE] forged")]
    assert KEY not in proxy.log()


def test_an_event_without_data_is_none_and_does_not_feed_the_idle_timer(proxy):
    begun = time.monotonic()
    response = ask(proxy, "blank")
    assert time.monotonic() - begun < 5
    hi, stopped, done = events(response.content)
    assert hi["data"] == HI.decode().strip().removeprefix("data: ")
    assert json.loads(stopped["data"])["reason"] == "idle"
    assert json.loads(stopped["data"])["events"] == 1
    assert done["data"] == "[DONE]"


def test_a_stop_after_finish_reason_is_a_stop_with_a_true_receipt(patient_proxy, stage):
    proxy, session_id = patient_proxy, new_id()
    client = proxy.start(session_id, play="finish_reason, then silence", tag=session_id)
    client.read_until(b'"stop"')
    status, receipt = proxy.cancel(session_id)
    assert (status, receipt["upstreamClosed"], receipt["events"]) == (200, True, 2)
    wait_for(lambda: session_id in stage[1])
    *_, stopped, done = events(client.read_answer()[1])
    assert json.loads(stopped["data"])["reason"] == "user"
    assert done["data"] == "[DONE]"
    assert "outcome=stopped" in proxy.closing_line(session_id)


def test_a_client_that_leaves_after_finish_reason_has_had_a_whole_answer(proxy):
    session_id = new_id()
    client = proxy.start(session_id, play="finish_reason, then silence", tag=session_id)
    client.read_until(b'"stop"')
    client.leave()
    assert "outcome=finished" in proxy.closing_line(session_id)


class Call:
    """Gives these pieces, and then nothing until it is aborted."""

    def __init__(self, session, pieces):
        self.session = session
        self.pieces = list(pieces)
        self.chunks = ChunkReader()
        self.aborted = threading.Event()

    def open(self):
        self.session.enter(Phase.WAITING)

    def receive(self):
        while self.pieces:
            events = self.chunks.read(self.pieces.pop(0))
            self.session.take(events, whole=self.chunks.seems_whole)
            if self.session.log.full:
                return False
        self.aborted.wait(10)
        if self.session.flag.is_set():
            raise Aborted
        return True
        yield

    def abort(self):
        self.aborted.set()

    def close(self):
        pass


class Pieces:
    """An upstream that answers with these pieces."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def call(self, question, session):
        return Call(session, self.pieces)

    def close(self):
        pass


KEY_OF_IT = SessionKey("", "session")


def begin(*pieces, log_bytes=1000):
    """An answer of these pieces: its session, and a reader of it."""
    registry = Registry(Settings(log_bytes=log_bytes), object(), TablePeers())
    reader = service_of(registry, Pieces(*pieces)).begin(KEY_OF_IT, Question(b"{}"), 0.0)
    return registry.find(KEY_OF_IT), reader


def test_a_reader_that_lags_behind_a_whole_answer_loses_nothing():
    """While it is waited for, the silence is not DeepSeek's."""
    session, reader = begin(HI + STOP, USAGE, log_bytes=10)
    watchdog = Watchdog(300, 1800, list, [], lambda: True)
    wait_for(lambda: session.whole and session.quiet_since is None)
    watchdog.check(session, time.monotonic() + 100)
    assert not session.concluded
    received = reader.read(1) + reader.read(10)
    wait_for(lambda: session.quiet_since is not None)
    watchdog.check(session, session.quiet_since + WHOLE_SECONDS - 0.1)
    assert not session.concluded
    watchdog.check(session, session.quiet_since + WHOLE_SECONDS)
    assert session.concluded
    while piece := reader.read(1):
        received += piece
    assert [each["id"] for each in events(received)] == ["1", "2", "3", "4"]
    assert events(received)[-1]["data"] == "[DONE]"
    assert session.outcome is Outcome.FINISHED


def test_whoever_reads_the_last_event_and_leaves_has_had_a_whole_answer():
    """Also in a thread that reads it before the producer goes on."""
    session = new_session()
    session.enter(Phase.WAITING)
    seen = []
    with mock.patch.object(AnswerLog, "append", side_effect=lambda _: seen.append(session.whole)):
        session.take([b"data: {}"], whole=True)
    assert seen == [True]


def test_an_answer_that_could_not_begin_gives_its_id_back():
    registry = Registry(Settings(), object(), TablePeers())
    service = service_of(registry, Pieces(HI))
    no_more = mock.patch("threading.Thread.start", side_effect=RuntimeError)
    with no_more, pytest.raises(RuntimeError):
        service.begin(KEY_OF_IT, Question(b"{}"), 0.0)
    assert registry.all() == []
    registry.check_claim(KEY_OF_IT)


def test_an_answer_whose_id_was_lost_says_so_and_is_not_called_aborted_by_its_client(caplog):
    with caplog.at_level("INFO", "chatproxy"):
        session, _reader = begin(HI)
        wait_for(lambda: session.events == 1)
        session.cancel(Reason.LOST)
        assert session.closed.wait(10)
    *_, stopped, done = events(LogReader(session.log).read(0))
    assert json.loads(stopped["data"])["reason"] == "lost"
    assert done["data"] == "[DONE]"
    assert "aborted by client" not in caplog.text
    assert "session ended outcome=stopped" in caplog.text


def openai_python(lines):
    """The events that openai-python's and httpx-sse's way of decoding gives.

    An empty line dispatches whatever there is, and an ``id`` is never forgotten again.
    """
    name, data, last_id = "", [], ""
    for line in lines:
        if not line:
            if name or data or last_id:
                yield "\n".join(data)
            name, data = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            name = value if field == "event" else name
            last_id = value if field == "id" else last_id
            data += [value] if field == "data" else []


def test_comments_give_no_event_to_clients_that_know_an_id(kind, start_proxy, deepseek):
    proxy = start_proxy(kind, deepseek.url, CHATPROXY_HEARTBEAT=0.05, CHATPROXY_IDLE_TIMEOUT=1)
    response = ask(proxy, "", simulate={"rate": 5, "tokens": 3, "keep_alive_every": 0.05})
    assert response.text.count(": heartbeat\n") > 3
    assert ":" in response.text
    *answer, done = openai_python(response.text.splitlines())
    assert done == "[DONE]"
    assert all(json.loads(data)["choices"] for data in answer)
