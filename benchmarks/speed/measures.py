"""What is measured of a relay, each by a function that puts it to the test once.

It returns samples by key; what becomes of them is said in :mod:`benchmarks.speed.results`. They run
in this order: the most streams before what is measured at half of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from ..figures import Span
from ..load import LoadError
from ..native import Delays
from .plan import VERY_MANY
from .search import most_streams
from .subject import NotHeld, Subject
from .tls import tls_front

Samples = dict[str, list[float]]

_BUSY = 0.9


@dataclass(frozen=True)
class Measure:
    """One thing that is measured.

    :param group: by which it is asked for on the command line.
    :param relays: of which it is measured; None for all.
    :param once: whether one round is enough, after all others.
    """

    name: str
    group: str
    take: Callable[[Subject], Samples]
    relays: frozenset[str] | None = None
    once: bool = False


def _memory_silent(subject: Subject) -> Samples:
    return {"memory_silent": [_memory(subject, silent=True)]}


def _memory_flowing(subject: Subject) -> Samples:
    return {"memory_flowing": [_memory(subject, silent=False)]}


def _memory(subject: Subject, *, silent: bool) -> float:
    """What a fresh process grows by for each live stream, in KB."""
    streams = subject.plan.memory_streams
    before = subject.running.memory()
    with subject.crowd(streams, subject.plan.slow_rate, silent=silent):
        grown = subject.running.memory() - before
    subject.note(f"{streams:,} streams")
    return grown / streams


def _cpu_steady(subject: Subject) -> Samples:
    span, delays = _steady(subject)
    waits = [100 * span.worker_waited / span.seconds]
    return {
        "cpu_steady": [span.microseconds],
        "steady_waits": waits,
        **_delays("steady", delays),
    }


def _steady(subject: Subject) -> tuple[Span, Delays | None]:
    streams, rate = subject.plan.steady
    with subject.crowd(streams, rate):
        measured = subject.span("steady", subject.plan.span, streams, rate)
    subject.note(f"{streams:,} streams of {rate} a second")
    return measured


def _cpu_saturated(subject: Subject) -> Samples:
    streams, rate = _many(subject), subject.plan.rate
    with subject.crowd(streams, rate):
        span, delays = subject.span("saturated", subject.plan.span, streams, rate)
    if span.served < streams:
        subject.note(f"{streams - span.served} of {streams:,} streams had no event")
    limit = span.limit(len(subject.cores.others)).replace("the worker", "the relay")
    subject.note(f"{streams:,} streams of {rate} a second; the limit: {limit}")
    return {
        "cpu_saturated": [span.microseconds],
        "saturated_rate": [span.rate],
        "saturated_relay": [100 * span.worker / span.seconds],
        "saturated_upstream": [100 * span.upstream / span.seconds],
        "saturated_load": [100 * span.load / span.seconds],
        "saturated_waits": [100 * span.worker_waited / span.seconds],
        **_delays("saturated", delays),
    }


def _start(subject: Subject) -> Samples:
    number = subject.plan.answers
    before = subject.running.cpu()
    subject.answers(number, subject.plan.concurrency)
    subject.settle()
    subject.note(f"{number:,} answers")
    return {"start": [(subject.running.cpu() - before) / number * 1e6]}


def _most_streams(subject: Subject) -> Samples:
    subject.found["most_streams"] = [0.0]  # unless it is found
    found = most_streams(subject)
    span = found.span
    shares = [x / span.seconds for x in (span.worker, span.upstream + span.load)]
    if found.too_many is None:
        subject.note(f"at least: more than {found.streams:,} were not tried")
    elif shares[0] < _BUSY:
        relay, others = (f"{share:.0%}" for share in shares)
        subject.note(f"with {relay} of its core, upstream and clients {others} of theirs")
    return {"most_streams": [float(found.streams)], "most_cpu": [span.microseconds]}


def _half(subject: Subject) -> tuple[int, int]:
    """Streams, and their rate, that are half of the most that the relay delivers."""
    if "most_streams" not in subject.found:
        subject.found.update(_most_streams(subject))
    rate = subject.plan.half_rate
    events = subject.found["most_streams"][0] * subject.plan.rate / 2
    if not events:
        raise LoadError("how much is half load is not known")
    streams = max(1, round(events / rate))
    subject.note(f"beside {streams:,} streams of {rate} a second")
    return streams, rate


def _first_rest(subject: Subject) -> Samples:
    return {"first_rest": _added(subject)}


def _first_half(subject: Subject) -> Samples:
    with subject.crowd(*_half(subject)):
        return {"first_half": _added(subject)}


def _added(subject: Subject) -> list[float]:
    """What the relay adds to the time to the first event, in ms."""
    through, alone = subject.first(subject.plan.probes, subject.plan.interval)
    usual = statistics.median(alone)
    return [each - usual for each in through]


def _stop_rest(subject: Subject) -> Samples:
    """Beside nothing: the streams are silent."""
    with subject.crowd(_ways(subject) * subject.plan.stops, 1, silent=True):
        return _stops(subject, "rest")


def _stop_half(subject: Subject) -> Samples:
    with subject.crowd(*_half(subject)):
        return _stops(subject, "half")


def _stop_many(subject: Subject) -> Samples:
    streams, rate = _many(subject), subject.plan.stop_rate
    subject.note(f"beside {streams:,} streams of {rate} a second")
    with subject.crowd(streams, rate):
        return _stops(subject, "many")


def _ways(subject: Subject) -> int:
    """In how many ways an answer of the relay is stopped."""
    return 2 if subject.relay.name == "chatproxy" else 1


def _stops(subject: Subject, when: str) -> Samples:
    """Stops in the relay's own way; of chatproxy also by leaving, as with those that have none."""
    number, interval = subject.plan.stops, subject.plan.stop_interval
    samples: Samples = {}
    if subject.relay.cancel_path:
        times, tokens = subject.stop(number, interval, "cancel")
        samples |= {f"stop_{when}": times, f"tokens_{when}": tokens}
    if _ways(subject) == 2 or not subject.relay.cancel_path:
        times, tokens = subject.stop(number, interval, "leave")
        samples |= {f"leave_{when}": times}
        # Where there is no other way it is the relay's own.
        samples = {f"stop_{when}": times, f"tokens_{when}": tokens, **samples}
    return samples


def _ten_thousand(subject: Subject) -> Samples:
    """As many streams as one process may have files for, up to that number."""
    wanted, number = subject.plan.very_many, subject.plan.very_many_stops
    streams = min(wanted, subject.room())
    if streams < wanted:
        subject.note(f"{streams:,} streams: it may have no more files open on this machine")
    before = subject.running.memory()
    with subject.crowd(streams, 1, seconds=subject.plan.seconds_to_open_very_many):
        span, delays = subject.span("very many", subject.plan.very_many_span, streams, 1)
        grown = subject.running.memory() - before
        times, _ = subject.stop(number, subject.plan.stop_interval, _own_way(subject))
    return {
        "very_many_streams": [float(streams)],
        "very_many_served": [100 * span.served / streams],
        "very_many_delivered": [100 * span.events / (streams * span.seconds)],
        "very_many_relay": [100 * span.worker / span.seconds],
        "very_many_memory": [grown / streams],
        "very_many_stop": times,
        **_delays("very_many", delays),
    }


def _own_way(subject: Subject) -> str:
    return "cancel" if subject.relay.cancel_path else "leave"


def _tls(subject: Subject) -> Samples:
    plain = subject.upstream.url
    with tls_front(plain, subject.cores, subject.folder) as url:
        subject.turn_to(url)
        try:
            span, _ = _steady(subject)
        finally:
            subject.turn_to(plain)
    samples = {"tls": [span.microseconds]}
    if "cpu_steady" in subject.found:
        samples["tls_more"] = [span.microseconds - subject.found["cpu_steady"][0]]
    return samples


def _many(subject: Subject) -> int:
    if not subject.plan.streams:
        raise NotHeld("so many streams are far too many for it, and were not tried")
    return subject.plan.streams


def _delays(name: str, delays: Delays | None) -> Samples:
    return {f"{name}_delay": [delays.p99]} if delays else {}


MEASURES = (
    Measure("memory_silent", "memory", _memory_silent),
    Measure("memory_flowing", "memory", _memory_flowing),
    Measure("cpu_steady", "cpu_steady", _cpu_steady),
    Measure("tls", "tls", _tls, relays=frozenset({"chatproxy"})),
    Measure("cpu_saturated", "cpu_saturated", _cpu_saturated),
    Measure("start", "start", _start),
    Measure("most_streams", "most_streams", _most_streams),
    Measure("first_rest", "first", _first_rest),
    Measure("first_half", "first", _first_half),
    Measure("stop_rest", "stop", _stop_rest),
    Measure("stop_half", "stop", _stop_half),
    Measure("stop_many", "stop", _stop_many),
    Measure("ten_thousand", "ten_thousand", _ten_thousand, relays=VERY_MANY, once=True),
)

#: What can be asked for on the command line.
GROUPS = tuple(dict.fromkeys(measure.group for measure in MEASURES))
