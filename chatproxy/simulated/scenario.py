"""How one simulated answer behaves: a :class:`Scenario`, asked for by the request itself.

A request to ``/chat/completions`` may carry a field that DeepSeek does not know, ``"simulate"``,
an object with any of the fields of :class:`Scenario`. Without it the answer is a healthy one.
A field that is unknown, has the wrong type or contradicts another is refused, never ignored: a
test whose scenario was quietly dropped would prove nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

ENDS = ("done", "eof", "cut", "reset", "error", "finish", "hold", "bare")
_DAY = 86_400.0
_MANY = 10_000_000
_LARGE = 256 * 1024 * 1024


class WrongScenario(ValueError):
    """The ``simulate`` field cannot be followed; the message says which part and why."""


@dataclass(frozen=True)
class Scenario:
    """What to do with one request. Times are seconds, sizes are bytes.

    "Tokens" counts reasoning and content together, except in ``tokens`` itself.
    """

    tag: str | None = None
    """Any text; the ledger shows it, and ``fail_times`` and ``disconnect_times`` count by it."""
    rate: float = 30.0
    """Tokens per second; 0 is as fast as the peer reads."""
    text: str | None = None
    """What the answer says, word by word; None is the built-in demonstration."""
    tokens: int | None = None
    """Content tokens: as many of ``text``, or of any words, over and over; None is all once."""
    tool_calls: list[dict[str, Any]] | None = None
    """The tools that are called, each a ``name`` and ``arguments``, an object: in answer to a
    question that offers tools and has no result of one yet. ``text`` is for the next question."""
    cached_tokens: int = 0
    """So many tokens of the question, or all of them, come from the cache."""
    reasoning_tokens: int | None = None
    """Tokens of thinking; None is the built-in thought, or nothing with ``text`` or ``tokens``."""
    headers_delay: float = 0.0
    """Time before anything is answered."""
    first_token_delay: float = 0.0
    """Time between the headers and the first event."""
    keep_alive_every: float = 0.0
    """Time between comments while waiting for the first token, from the headers on; 0 is none."""
    never: str | None = None
    """``"headers"``: never answers. ``"tokens"``: headers, then no event ever."""
    silence_after: int | None = None
    """After so many tokens nothing more comes, and the connection stays open."""
    status: int | None = None
    """An error status to answer with, 400 to 599."""
    retry_after: float | None = None
    """The ``Retry-After`` header of that error."""
    fail_times: int | None = None
    """``status`` is for the first so many requests with this tag only."""
    disconnect_times: int = 0
    """The first so many requests with this tag are hung up on without an answer."""
    end: str = "done"
    """``"done"``, ``"eof"`` (no ``[DONE]``), ``"cut"`` (in mid-event), ``"reset"`` (TCP RST),
    ``"error"`` (an event that reports an error, then the end of the body); or the answer is whole,
    but there is only its last chunk with no ``[DONE]`` (``"finish"``), then silence with the
    connection open (``"hold"``), or ``[DONE]`` without a line end, then silence (``"bare"``)."""
    end_after: int | None = None
    """``end`` (other than "done") or ``bad_chunking`` comes after so many tokens."""
    garbage: int = 0
    """The body is so many random bytes, always the same ones, in place of events."""
    bad_chunking: bool = False
    """After ``end_after`` (or 3) tokens the chunked framing breaks; then silence."""
    gzip: bool = False
    """The body is gzip-encoded, flushed with each event, whatever the client accepts."""
    huge_event: int = 0
    """One event of exactly this size precedes the normal ones; it counts as no token."""
    trickle: float = 0.0
    """The body is sent byte by byte with this time between two bytes."""
    redirect: str | None = None
    """Answer 307 with this Location."""
    instead: str | None = None
    """Answer 200 with an error in JSON (``"json"``) or a page (``"html"``) in place of a stream."""
    line_ending: str = "lf"
    """How lines end in events: ``"lf"``, ``"crlf"`` or ``"cr"``."""

    @classmethod
    def parse(cls, simulate: object) -> Scenario:
        """The scenario in a request's ``simulate`` field; None, for no such field, is all defaults.

        So is a field that is null. Raises :class:`WrongScenario`.
        """
        if simulate is None:
            return cls()
        if not isinstance(simulate, Mapping):
            raise WrongScenario("simulate: an object is needed")
        given = {name: value for name, value in simulate.items() if value is not None}
        scenario = cls(**{name: _checked(name, value) for name, value in given.items()})
        for contradicts, why in _CONTRADICTIONS:
            if contradicts(scenario):
                raise WrongScenario(f"simulate: {why}")
        return scenario

    def refuses(self, attempt: int) -> bool:
        """Whether request number ``attempt`` (from 1) with this tag gets the error status."""
        return self.status is not None and (self.fail_times is None or attempt <= self.fail_times)

    @property
    def lasts(self) -> float:
        """The number of tokens after which this scenario leaves the script; infinite if never."""
        if self.bad_chunking:
            return 3 if self.end_after is None else self.end_after
        limits = (self.silence_after, self.end_after)
        return min((n for n in limits if n is not None), default=math.inf)


_Check = Callable[[object], bool]


def _text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _long_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100_000


def _tool_calls(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 100 and all(map(_tool_call, value))


def _tool_call(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "arguments"}
        and _text(value["name"])
        and isinstance(value["arguments"], dict)
    )


def _location(value: object) -> bool:
    return _text(value) and str(value).isascii()


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _whole(least: int, most: int) -> _Check:
    def check(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return check


def _number(most: float) -> _Check:
    def check(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return 0 <= value <= most  # false for NaN

    return check


def _one_of(*names: str) -> _Check:
    return lambda value: isinstance(value, str) and value in names


_SECONDS = (_number(_DAY), f"seconds, a number from 0 to {_DAY:.0f}")
_TOKENS = (_whole(0, _MANY), f"a whole number from 0 to {_MANY}")
_TIMES = (_whole(0, 1_000_000), "a whole number from 0 to 1000000")

_RULES: dict[str, tuple[_Check, str]] = {
    "tag": (_text, "a text of 1 to 200 printable characters"),
    "rate": (_number(1e6), "tokens per second, a number from 0 to 1000000"),
    "text": (_long_text, "a text of 1 to 100000 characters"),
    "tokens": _TOKENS,
    "tool_calls": (_tool_calls, "a list of objects with a name and arguments"),
    "cached_tokens": _TOKENS,
    "reasoning_tokens": _TOKENS,
    "headers_delay": _SECONDS,
    "first_token_delay": _SECONDS,
    "keep_alive_every": _SECONDS,
    "never": (_one_of("headers", "tokens"), '"headers" or "tokens"'),
    "silence_after": _TOKENS,
    "status": (_whole(400, 599), "a whole number from 400 to 599"),
    "retry_after": _SECONDS,
    "fail_times": _TIMES,
    "disconnect_times": _TIMES,
    "end": (_one_of(*ENDS), "one of " + ", ".join(f'"{end}"' for end in ENDS)),
    "end_after": _TOKENS,
    "garbage": (_whole(1, _LARGE), f"bytes, a whole number from 1 to {_LARGE}"),
    "bad_chunking": (_flag, "true or false"),
    "gzip": (_flag, "true or false"),
    "huge_event": (_whole(1024, _LARGE), f"bytes, a whole number from 1024 to {_LARGE}"),
    "trickle": _SECONDS,
    "redirect": (_location, "an address in 1 to 200 printable ASCII characters"),
    "instead": (_one_of("json", "html"), '"json" or "html"'),
    "line_ending": (_one_of("lf", "crlf", "cr"), '"lf", "crlf" or "cr"'),
}

_CONTRADICTIONS: tuple[tuple[Callable[[Scenario], bool], str], ...] = (
    (lambda s: s.retry_after is not None and s.status is None, "retry_after needs a status"),
    (lambda s: s.fail_times is not None and s.status is None, "fail_times needs a status"),
    (lambda s: s.fail_times is not None and s.tag is None, "fail_times needs a tag"),
    (lambda s: s.disconnect_times > 0 and s.tag is None, "disconnect_times needs a tag"),
    (
        lambda s: s.end_after is not None and s.end == "done" and not s.bad_chunking,
        'end_after needs bad_chunking or an end other than "done"',
    ),
    (
        lambda s: s.silence_after is not None and (s.end != "done" or s.bad_chunking),
        "silence_after has no end, so it excludes end and bad_chunking",
    ),
    (lambda s: s.bad_chunking and s.end != "done", "bad_chunking excludes end"),
)


def _checked(name: object, value: object) -> Any:
    rule = _RULES.get(str(name))
    if rule is None:
        known = ", ".join(field.name for field in fields(Scenario))
        raise WrongScenario(f"simulate: no field {str(name)[:50]!r}; the fields are {known}")
    check, wanted = rule
    if not check(value):
        raise WrongScenario(f"simulate.{name}: {wanted} is needed")
    return value
