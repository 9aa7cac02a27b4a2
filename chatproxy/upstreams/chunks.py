"""What a stream of chat completion chunks says: bytes in, events out. No I/O.

The format is that of DeepSeek's chat completions with ``stream: true``
(https://api-docs.deepseek.com/api/create-chat-completion). Rules:

* An answer is whole with a ``finish_reason`` for each choice, or with ``[DONE]``.
* An event that reports an error fails the answer, whole or not, and is no event of the answer. So
  does a ``finish_reason`` that says that the upstream has broken the answer off.
* Comments and events that say nothing are no events of the answer either.
* An event loses its name: those that clients get are ours (``stopped``, ``error``, ``account``).
* A count of tokens is noted. Who has not asked for it does not get the event that has nothing else,
  nor the counts of an upstream that was asked for one with each event.
* The last event may lack its line ends. It counts if the body ends well, or if it has a
  ``finish_reason`` and nothing more comes. An event that was cut off amid its JSON is none.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .. import sse
from ..answers.foreign_json import decoded
from ..answers.transcript import chunk_of, finished_in
from .refusals import error_in

#: How nearly every event begins.
_OBJECT = b"data: {"
#: What to look for in an event before any of it is decoded. It can't be in a text within JSON,
#: which escapes its quotes. (``rfind`` takes a third of the time of ``in`` here.)
_ERROR = b'"error"'
_CANCELLED = b'"cancelled"'
_UNFINISHED = b'"finish_reason":null'
_USAGE = b'"usage"'
_NO_USAGE = b'"usage":null'
#: How an event ends that may end an answer.
_LAST = (b"}", b"]")
#: The line ends that the last event may lack.
_ENDS = b"\n\n"
#: One for all answers: an empty set takes 216 bytes.
_NO_CHOICES = frozenset[int]()
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"(length")?')


class ChunkReader:
    """Reads the chunks of one answer.

    :param choices: how many choices the answer has.
    :param hides_usage: whether the client gets no event that has nothing but a count of tokens.
    :param takes_usage_out: whether it gets no such count in any other event either.
    """

    __slots__ = (
        *("_choices", "_decoder", "_finished", "_hides_usage", "_takes_usage_out", "commented"),
        *("cut_short", "done", "error", "seems_whole", "usage"),
    )

    def __init__(
        self, choices: int = 1, *, hides_usage: bool = False, takes_usage_out: bool = False
    ) -> None:
        self._choices = choices
        self._hides_usage = hides_usage
        self._takes_usage_out = takes_usage_out
        #: The latest count of tokens, as the upstream has it; None before.
        self.usage: dict[str, Any] | None = None
        self._finished = _NO_CHOICES
        self._decoder = sse.Decoder()
        #: Whether a choice has ended at the most tokens that it may have.
        self.cut_short = False
        #: Whether ``[DONE]`` has come.
        self.done = False
        #: The error that an event reports, as JSON has it; None before.
        self.error: Any = None
        #: Whether the answer is whole, or would be if the present event got its line ends.
        self.seems_whole = False
        #: Whether the piece that was read last had a comment in it.
        self.commented = False

    @property
    def over(self) -> bool:
        """Whether it does not matter what may still come."""
        return self.done or self.error is not None

    @property
    def whole(self) -> bool:
        """Whether all choices have finished, by events that are whole."""
        return len(self._finished) >= self._choices

    @property
    def strays(self) -> bytes:
        """The beginning of what came and is no line of an event stream."""
        return self._decoder.strays

    def read(self, piece: bytes) -> list[bytes]:
        """Take the next bytes; return the events that they complete.

        :raises UpstreamError: if an event grows beyond ``sse.MAX_EVENT_BYTES``.
        """
        decoder = self._decoder
        events: list[bytes] = []
        self.commented = False
        blocks = decoder.feed(piece)
        has_names = decoder.names_events
        for block in blocks:
            if not block.startswith(_OBJECT):  # as nearly all do
                if sse.is_comment(block):
                    self.commented = True
                    continue
                if sse.is_done(block):
                    self.done = True
                    break
                if sse.is_blank(block):
                    continue
            if (block.rfind(_ERROR) >= 0 or has_names) and self._has_failed(block):
                break
            if (block.rfind(_UNFINISHED) < 0 or self._choices > 1) and self._breaks_off(block):
                break
            if block.rfind(_NO_USAGE) < 0 and block.rfind(_USAGE) >= 0:
                events += self._take_usage(block)
            else:
                events.append(block)
        if not (decoder.is_between_events or self.over) and piece.rstrip().endswith(_LAST):
            self._look_at(decoder.pending)
        return list(map(sse.without_name, events)) if has_names else events

    def end(self) -> list[bytes]:
        """Take the end of the body: the present event may lack its line ends, and no more."""
        if self.over:
            return []
        whole = filter(_is_whole, self._decoder.feed(_ENDS))
        return self.read(b"".join(block + _ENDS for block in whole))

    def _breaks_off(self, block: bytes) -> bool:
        """Look for a ``finish_reason``; return whether it says that the answer is not whole."""
        if (found := _FINISH_REASON.search(block)) is None:
            return False
        if block.rfind(_CANCELLED) >= 0 and self._has_failed(block):
            return True
        self.cut_short = self.cut_short or found[1] is not None
        self._finished |= finished_in(chunk_of(block))
        self.seems_whole = self.whole
        return False

    def _has_failed(self, block: bytes) -> bool:
        """Note the error that an event reports; return whether it reports any."""
        self.error = _error_of(block)
        if self.error is not None:
            self._take_usage(block)
        return self.error is not None

    def _take_usage(self, block: bytes) -> list[bytes]:
        """Note a count of tokens; return the event for the client, if it gets it."""
        chunk = chunk_of(block)
        if not isinstance(chunk, dict) or not isinstance(chunk.get("usage"), dict):
            return [block]
        self.usage = chunk["usage"]
        if chunk.get("choices") == []:
            return [] if self._hides_usage else [block]
        return [_without_usage(block)] if self._takes_usage_out else [block]

    def _look_at(self, pending: bytes) -> None:
        """See what the present event says, if all that it lacks are its line ends."""
        self.done = sse.is_done(pending)
        if isinstance(chunk := chunk_of(pending), dict) and not self.whole:
            self.error = error_in(chunk)
            finished = self._finished | finished_in(chunk)
            self.seems_whole = len(finished) >= self._choices


def _error_of(block: bytes) -> Any:
    """The error that an event reports; None if it reports none."""
    chunk = chunk_of(block)
    error = error_in(chunk)
    if error is None and sse.is_error(block):
        return sse.data_of(block).decode("utf-8", "replace") if chunk is None else chunk
    return error


def _is_whole(block: bytes) -> bool:
    """Whether the last event lacks nothing but its line ends."""
    return sse.is_comment(block) or sse.is_done(block) or chunk_of(block) is not None


def _without_usage(block: bytes) -> bytes:
    """An event without its count of tokens. Everything else in it stays as it came."""
    fields = decoded(_FIELDS.decode, sse.data_of(block))
    if fields is None:
        return block  # it has a name that is no text
    del fields["usage"]
    return b"data: " + msgspec.json.encode(fields)
