"""The most streams that a relay holds: it delivers what it is offered, and no event is late.

The streams are added to, or taken from, those that are there. Up to the first number that is too
many, each step is as long as the relay's core has room for; from there on it is the half of what is
left. A number is too many when it was tried twice: once may be the work of the machine.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ..figures import Span
from ..load import LoadError
from ..native import Delays
from .subject import NotHeld, Subject

#: In ms, of 99 in 100 events.
MOST_DELAY = 50.0
LEAST_DELIVERED = 0.97

_FULL = 0.92  # of a core
_STEP = 1.25
_NEAR = 1.05
_TRIES = 2
#: Of what is expected, to begin with.
_NOT_ALL = 0.8
_EASY = 0.7  # of a core; there is no doubt then
_READING = 0.3
_READINGS = 4


@dataclass(frozen=True)
class Most:
    """What was found: the number, what it cost there, and the least number that was too many."""

    streams: int
    span: Span
    too_many: int | None


def most_streams(subject: Subject) -> Most:
    """Look for it.

    :raises NotHeld: where not even one stream is held.
    """
    least, most = subject.plan.search
    wanted = max(least, round(_NOT_ALL * subject.expected))
    found, too_many, there = None, None, 0
    while True:
        try:
            span = _tried(subject, wanted, there)
            there = wanted
        except NotHeld:  # some of them have begun
            subject.end()
            span, there = None, 0
        if span is None:
            too_many = wanted
        else:
            found = Most(wanted, span, too_many)
        best = found.streams if found else 0
        if best >= most or (too_many and too_many <= max(best + 1, best * _NEAR)):
            break
        wanted = (best + too_many) // 2 if too_many else _more(best, found, most)
    try:
        subject.rest()
    except LoadError:  # it had too many, and has not come to itself
        subject.end()
    if found is None:
        raise NotHeld("not even one stream was held")
    return Most(found.streams, found.span, too_many)


def _more(best: int, found: Most | None, most: int) -> int:
    assert found
    share = found.span.worker / found.span.seconds
    return min(most, round(best * min(2.0, max(_STEP, _FULL / share))))


def _tried(subject: Subject, wanted: int, there: int) -> Span | None:
    """The span in which so many streams were held; None where they were not."""
    if wanted > there:
        subject.open(wanted - there, subject.plan.rate)
    else:
        subject.leave(there - wanted)
    for _ in range(_TRIES):
        with suppress(NotHeld):  # nothing came
            if span := _held(subject, wanted):
                return span
    return None


def _held(subject: Subject, streams: int) -> Span | None:
    # What the opening has delayed, and what waits from streams that were too many, is let pass.
    for _ in range(_READINGS):
        span, delays = _span(subject, streams, _READING)
        if _holds(span, delays):
            break
    else:
        return None
    if span.worker > _EASY * span.seconds or streams == subject.plan.search[1]:
        span, delays = _span(subject, streams, subject.plan.search_span)
    if delays:
        subject.points.append((streams, delays.p99))
    return span if _holds(span, delays) else None


def _span(subject: Subject, streams: int, seconds: float) -> tuple[Span, Delays | None]:
    return subject.span("search", seconds, streams, subject.plan.rate)


def _holds(span: Span, delays: Delays | None) -> bool:
    assert span.offered
    return bool(delays and delays.p99 < MOST_DELAY and span.rate >= LEAST_DELIVERED * span.offered)
