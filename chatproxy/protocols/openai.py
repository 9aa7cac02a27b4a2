"""OpenAI's protocol: an answer as chat completion chunks, refusals as OpenAI's clients read them.

``POST /v1/chat/completions`` with ``stream: true``
(https://platform.openai.com/docs/api-reference/chat-streaming). Rules:

* The upstream's events pass through byte for byte, with their ``id`` lines, which OpenAI's clients
  skip. So do comments. As long as no event is named, not a byte is looked at twice or copied.
* A stopped answer ends with one whole chunk, because clients read ``choices[0]`` of whatever comes:
  its ``finish_reason`` is ``cancelled`` for each choice that has not finished, and ``chatproxy``
  says why. ``[DONE]`` follows.
* An event of a run's own is a chunk without text, with its name and data in ``chatproxy``.
* A failed answer ends with ``{"error": {…}}`` in an event without a name, and without ``[DONE]``:
  OpenAI's clients raise an error for it, with its message.

``completion`` makes one object of the whole answer.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .. import sse
from ..answers.foreign_json import NO_JSON
from ..answers.transcript import chunk_of
from ..errors import Refusal, UpstreamError
from . import chunk_texts, native
from .chunk_texts import TooManyError

#: The most choices of which the end of an answer is told. OpenAI makes no more.
MOST_CHOICES = 128

_NAMED = b"\nevent:"
#: What an event has that is a chunk. A text within JSON can't have it: its quotes are escaped.
_CHOICES = b'"choices"'
#: What all chunks of an answer say alike.
_IDENTITY = ("id", "object", "created", "model", "system_fingerprint")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
#: The statuses of failures amid an answer, of which its log has the code alone.
_STATUSES = {"upstream_timeout": 504, "upstream_busy": 503}


def error_of(refusal: Refusal) -> dict[str, Any]:
    """A refusal as OpenAI's clients read it.

    ``type`` follows from the status (https://platform.openai.com/docs/guides/error-codes).
    """
    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": refusal.message,
            "type": _TYPES.get(refusal.status, kind),
            "param": None,
            "code": refusal.code,
        }
    }


def failure_of(ending: dict[str, Any]) -> UpstreamError:
    """The refusal for the ``error`` with which an answer has ended."""
    error = ending["error"]
    code = str(error["code"])
    return UpstreamError(str(error["message"]), status=_STATUSES.get(code), code=code)


def chunk_with(
    delta: dict[str, str],
    finish_reason: str | None = None,
    *,
    model: str,
    created: int,
    chunk_id: str = "",
) -> dict[str, Any]:
    """A chunk of our own, of one choice.

    :param created: in seconds since 1970.
    """
    return {
        "id": chunk_id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


class ChunkEncoder:
    """An ``Encoder``: chunks, as they come.

    :param model: the model of an answer that is stopped before its first chunk.
    :param created: when the answer was asked for, in seconds since 1970; also for that.
    :param choices: how many choices the answer has.
    """

    __slots__ = ("_choices", "_created", "_finished", "_latest", "_model")

    heartbeat = sse.HEARTBEAT
    refusal: Refusal | None = None
    withheld = None

    def __init__(self, model: str, created: int, choices: int = 1) -> None:
        self._model = model
        self._created = created
        self._choices = range(min(choices, MOST_CHOICES))
        self._finished: set[int] = set()
        #: The events that came last, a chunk among them.
        self._latest = b""

    def encode(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        if data.rfind(_NAMED) < 0 and len(self._choices) == 1:
            if _CHOICES in data:
                self._latest = data
            return data
        *events, comments = data.split(b"\n\n")
        return b"".join([self._encoded(event) + b"\n\n" for event in events]) + comments

    def fail(self, refusal: Refusal) -> bytes:
        """See ``Encoder``."""
        return sse.unnamed(error_of(refusal)) + b"\n\n"

    def _encoded(self, event: bytes) -> bytes:
        ending = native.ending_of(event)
        if ending is None:
            if (emitted := native.emitted_in(event)) is not None:
                return self._chunk_for(event, *emitted)
            if _CHOICES in event:
                self._latest = event
            if len(self._choices) > 1:
                self._finished |= _finished_in(event) & set(self._choices)
            return event
        said = error_of(failure_of(ending)) if "error" in ending else self._last_chunk(ending)
        return _number_of(event) + sse.unnamed(said)

    def _chunk_for(self, event: bytes, name: str, data: bytes) -> bytes:
        chunk = sse.unnamed(chunk_with({}, model=self._model, created=self._created))
        said = b',"chatproxy":{"event":"%b","data":%b}}' % (name.encode("ascii"), data)
        return _number_of(event) + chunk.removesuffix(b"}") + said

    def _last_chunk(self, stopped: dict[str, Any]) -> dict[str, Any]:
        chunks = map(chunk_of, reversed(self._latest.split(b"\n\n")))
        latest = next((each for each in chunks if isinstance(each, dict) and "choices" in each), {})
        usage = latest.get("usage") or stopped.get("usage")
        unfinished = [index for index in self._choices if index not in self._finished]
        session_id = stopped["sessionId"] or ""
        return {
            **chunk_with({}, model=self._model, created=self._created, chunk_id=session_id),
            **{name: latest[name] for name in _IDENTITY if latest.get(name)},
            "choices": [
                {"index": index, "delta": {}, "finish_reason": "cancelled"}
                for index in unfinished or [0]
            ],
            **({"usage": usage} if isinstance(usage, dict) else {}),
            "chatproxy": {"stopped": stopped},
        }


def _finished_in(event: bytes) -> set[int]:
    """The choices that end with this event."""
    with suppress(*NO_JSON, TooManyError):
        choices = chunk_texts.parse(sse.data_of(event)).choices or ()
        return {choice.index or 0 for choice in choices if choice.finish_reason}
    return set()


def _number_of(event: bytes) -> bytes:
    """The line with the number of an event of ours, if it has one."""
    number, is_numbered, _ = event.partition(b"\nevent:")
    return number + b"\n" if is_numbered else b""
