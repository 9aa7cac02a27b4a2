"""One ``chat.completion`` out of the chunks of an answer, for clients that want it whole.

``POST /v1/chat/completions`` without ``stream``
(https://platform.openai.com/docs/api-reference/chat/object). The upstream is asked for a stream all
the same, so that the answer can be stopped like any other. How chunks become one object:

* Of a ``delta`` the strings are joined, whatever their names, because each upstream has some of its
  own (``content``, ``reasoning_content``, ``refusal``, ``reasoning``). Lists grow, item by item if
  each has an ``index`` (``tool_calls``); so do the lists of ``logprobs``.
* Of everything else the latest counts that is neither null nor empty: ``usage``,
  ``finish_reason``, ``system_fingerprint``, and whatever an upstream adds to its chunks.
* An event that is no JSON object is no part of the completion, and none of a run's own is.
* The tool calls of a choice that was stopped are left out: clients carry out what they find.

What is held is bounded: each chunk is taken apart once and dropped, and what it says is kept as the
JSON text of the completion (``growing_json``), of at most ``MOST_BYTES`` with ``MOST_FIELDS``
fields. At the end the parts are put one after the other and given out in pieces, each of which is
held no longer: so there is one copy, which counts until the client has taken it (``Withheld``).
Each step takes a few milliseconds for the largest. An answer that grows beyond that is refused.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from .. import sse
from ..answers.foreign_json import decoded
from ..errors import EventsGone, Refusal
from . import growing_json, native
from .growing_json import FullError, GrowingObject, Room, Show, json_of
from .openai import MOST_CHOICES, failure_of

#: The most bytes of a completion. DeepSeek's longest answers have some two million, those with
#: log-probabilities some thousands for each token.
MOST_BYTES = 16 << 20
#: The most fields of all its objects. A tool call has five.
MOST_FIELDS = 2048
#: The bytes of a completion that are given out at once.
_PIECE_BYTES = 64 * 1024

_NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_TOOL_CALLS = ("tool_calls", "function_call")
_INDEX = msgspec.json.Decoder(int)


class CompletionEncoder:
    """An ``Encoder``, and its ``Withheld``: all of the answer as one JSON object, at its end.

    ``refusal`` is set if the answer fails after it has begun: then there is no object, and the
    response can have the status of the refusal.

    :param model: the model of an answer that is stopped before its first chunk.
    :param created: when the answer was asked for, in seconds since 1970; also for that.
    :param choices: how many choices the answer has.
    """

    heartbeat = b""

    def __init__(self, model: str, created: int, choices: int = 1) -> None:
        self.refusal: Refusal | None = None
        self._room = Room(MOST_BYTES, MOST_FIELDS)
        self._fields = GrowingObject(self._room)
        about = {"id": "", "created": created, "model": model, "usage": None}
        self._fields.replace({name: json_of(value) for name, value in about.items()})
        self._expected = range(min(choices, MOST_CHOICES))
        self._choices: dict[int, GrowingObject] = {}
        self._ended = False
        #: What is left to be given out when the answer has ended, and its size.
        self._parts: deque[bytes | bytearray] = deque()
        self._left = 0

    @property
    def withheld(self) -> CompletionEncoder:
        """See ``Encoder``."""
        return self  # an attribute would be a cycle

    @property
    def size(self) -> int:
        """See ``Withheld``."""
        return self._left if self._ended else self._room.taken

    def encode(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        try:
            for event in data.split(b"\n\n"):
                if not self._ended:
                    self._take(event)
        except (FullError, RecursionError):
            sentence = "The answer is too large to be given whole; ask for it with 'stream'."
            self.fail(Refusal(sentence, status=502, code="answer_too_large", should_retry=False))
        return b""

    def fail(self, refusal: Refusal) -> bytes:
        """See ``Encoder``."""
        self.refusal = refusal
        self._end_with(deque())
        return b""

    def pieces(self) -> Iterator[bytes]:
        """See ``Withheld``."""
        while piece := self._next_piece():
            yield piece
        if self.refusal is not None:
            raise BrokenPipeError(errno.EPIPE, self.refusal.message)  # servers are silent about it

    def drop(self) -> None:
        """See ``Withheld``."""
        if self.refusal is None and (self._left or not self._ended):
            self.fail(EventsGone("The answer is no longer held."))

    def _take(self, event: bytes) -> None:
        ending = native.ending_of(event)
        if ending is not None:
            if "error" in ending:
                self.fail(failure_of(ending))
            else:
                self._stopped(ending)
        elif sse.is_done(event):
            self._whole()
        elif native.emitted_in(event) is not None:
            pass
        elif (chunk := growing_json.decoded(sse.data_of(event))) is not None:
            self._room.begin_event()
            self._take_chunk(*chunk)

    def _take_chunk(self, chunk: dict[str, bytes], show: Show) -> None:
        choices = bytes(chunk.pop("choices", b""))
        chunk.pop("obfuscation", None)  # makes the chunks of OpenAI's streams equally long
        self._fields.replace(chunk, show)
        for choice in growing_json.objects_in(choices, show, self._room):
            self._take_choice(choice, show)

    def _take_choice(self, choice: dict[str, bytes], show: Show) -> None:
        fields = self._choice(_index_of(choice.pop("index", b"0")))
        choice.pop("message", None)  # some upstreams repeat in it what came before
        delta = bytes(choice.pop("delta", b""))
        if delta.startswith(b"{"):
            fields.merge({"message": delta}, show)
        for name, value in choice.items():
            grows = name == "logprobs" or bytes(value).startswith(b"[")
            (fields.merge if grows else fields.replace)({name: value}, show)

    def _choice(self, index: int) -> GrowingObject:
        if index not in self._choices:
            fields = self._choices[index] = GrowingObject(self._room)
            nothing = b"null"
            fields.replace({"index": b"%d" % index, "finish_reason": nothing, "logprobs": nothing})
            fields.merge({"message": b'{"role":"assistant","content":null}'})
        return self._choices[index]

    def _stopped(self, stopped: dict[str, Any]) -> None:
        self._room.begin_event()
        self._fields.propose("id", json_of(stopped["sessionId"] or ""))
        # Some clients fail at a completion without one. Nothing was sent while it connected.
        nothing = _NO_TOKENS if stopped["phase"] == "connecting" else None
        self._fields.propose("usage", json_of(stopped.get("usage") or nothing))
        self._fields.replace({"chatproxy": json_of({"stopped": stopped})})
        for index in {*self._expected, *self._choices}:
            if self._choice(index).propose("finish_reason", b'"cancelled"'):
                self._choice(index).leave_out("message", _TOOL_CALLS)
        self._whole()

    def _whole(self) -> None:
        self._room.begin_event()
        self._fields.replace({"object": b'"chat.completion"'})
        self._fields.put_items("choices", self._choices)
        self._end_with(deque(self._fields.parts()))

    def _end_with(self, parts: deque[bytes | bytearray]) -> None:
        """Hold nothing else from now on."""
        self._fields, self._choices = GrowingObject(self._room), {}
        self._parts, self._left = parts, sum(map(len, parts))
        self._ended = True

    def _next_piece(self) -> bytes:
        """Take what comes next of the parts; b"" if there is nothing left."""
        parts, piece = self._parts, bytearray()  # ``drop`` puts others in their place
        while parts and len(piece) < _PIECE_BYTES:
            part, room = parts.popleft(), _PIECE_BYTES - len(piece)
            piece += part[:room]
            if len(part) > room:
                rest = part if isinstance(part, bytearray) else bytearray(part)
                del rest[:room]
                parts.appendleft(rest)
        if parts is self._parts:
            self._left -= len(piece)
        return bytes(piece)


def _index_of(text: bytes) -> int:
    """The index of a choice; 0 if it is no number."""
    return decoded(_INDEX.decode, text) or 0
