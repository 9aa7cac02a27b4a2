"""What was found of each relay, by round, and the figures and the ratios that are made of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..figures import Figure, percentile

_KINDS: dict[str, Callable[[Sequence[float]], float]] = {
    "": statistics.median,
    "p50": partial(percentile, 0.50),
    "p99": partial(percentile, 0.99),
    "mean": statistics.fmean,
    "most": max,
}


@dataclass(frozen=True)
class Quantity:
    """What is measured, and how its samples become figures.

    :param measure: by which it is found.
    :param kinds: what is made of the samples of a round; "" where there is one.
    :param compared: whether a ratio to another relay's means anything.
    """

    key: str
    measure: str
    title: str
    unit: str = ""
    kinds: tuple[str, ...] = ("",)
    compared: bool = True


_TIMES = ("p50", "p99")
_NUMBERS = ("mean", "most")

#: The tables, each with its title and its rows.
TABLES: dict[str, tuple[Quantity, ...]] = {
    "CPU of the relay": (
        Quantity("cpu_steady", "cpu_steady", "an event, steady", "µs"),
        Quantity("cpu_saturated", "cpu_saturated", "an event, many streams", "µs"),
        Quantity("most_cpu", "most_streams", "an event, at its most streams", "µs"),
        Quantity("start", "start", "an answer of one token", "µs"),
        Quantity("tls", "tls", "an event, steady, upstream with TLS", "µs"),
        Quantity("tls_more", "tls", "of which for TLS", "µs", compared=False),
    ),
    "Streams, and their events": (
        Quantity("most_streams", "most_streams", "most streams of 50 a second"),
        Quantity("steady_delay", "cpu_steady", "an event's delay p99, steady", "ms"),
        Quantity("saturated_delay", "cpu_saturated", "delay p99, many streams", "ms"),
        Quantity("saturated_rate", "cpu_saturated", "events a second, many streams"),
        Quantity("saturated_relay", "cpu_saturated", "relay", "% of its core", compared=False),
        Quantity("saturated_upstream", "cpu_saturated", "upstream", "% of a core", compared=False),
        Quantity("saturated_load", "cpu_saturated", "clients", "% of a core", compared=False),
        Quantity("steady_waits", "cpu_steady", "other work kept it, steady", "%", compared=False),
        Quantity("saturated_waits", "cpu_saturated", "and with many", "%", compared=False),
    ),
    "Time to the first event, added by the relay": (
        Quantity("first_rest", "first_rest", "at rest", "ms", _TIMES),
        Quantity("first_half", "first_half", "at half load", "ms", _TIMES),
    ),
    "Memory for a live stream (PSS)": (
        Quantity("memory_silent", "memory_silent", "silent", "KB"),
        Quantity("memory_flowing", "memory_flowing", "5 events a second", "KB"),
    ),
    "Stop to close at the upstream": (
        Quantity("stop_rest", "stop_rest", "at rest", "ms", _TIMES),
        Quantity("stop_half", "stop_half", "at half load", "ms", _TIMES),
        Quantity("stop_many", "stop_many", "beside many streams", "ms", _TIMES),
        Quantity("leave_rest", "stop_rest", "by leaving, at rest", "ms", _TIMES),
        Quantity("leave_half", "stop_half", "by leaving, at half load", "ms", _TIMES),
        Quantity("leave_many", "stop_many", "by leaving, beside many", "ms", _TIMES),
        Quantity("tokens_half", "stop_half", "events sent after it, at half load", "", _NUMBERS),
        Quantity("tokens_many", "stop_many", "events sent after it, beside many", "", _NUMBERS),
    ),
    "Very many streams of one event a second": (
        Quantity("very_many_streams", "ten_thousand", "streams", compared=False),
        Quantity("very_many_served", "ten_thousand", "served", "%", compared=False),
        Quantity(
            "very_many_delivered", "ten_thousand", "of the events offered", "%", compared=False
        ),
        Quantity("very_many_relay", "ten_thousand", "relay", "% of its core", compared=False),
        Quantity("very_many_memory", "ten_thousand", "memory for a stream (PSS)", "KB"),
        Quantity("very_many_delay", "ten_thousand", "an event's delay p99", "ms"),
        Quantity("very_many_stop", "ten_thousand", "Stop to close", "ms", _TIMES),
    ),
}


@dataclass
class Results:
    """All that was found.

    :param relays: their titles by name, in their order.
    :param versions: of each relay, what of it was measured.
    :param samples: by key and relay and round.
    :param lost: by measure and relay, why there is no figure, or not one of every round.
    :param notes: by measure and relay, what is to be said to the figures.
    :param points: by relay, numbers of streams and the 99th percentile of their events' delays.
    """

    relays: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, dict[int, list[float]]]] = field(default_factory=dict)
    lost: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, relay: str, number: int, samples: dict[str, list[float]]) -> None:
        """Take in what a measure has found of a relay in a round."""
        for key, values in samples.items():
            self.samples.setdefault(key, {}).setdefault(relay, {})[number] = values

    def figure(self, key: str, relay: str, kind: str) -> Figure | None:
        """The median of what the rounds have, with the lowest and the highest; None without any."""
        rounds = self.samples.get(key, {}).get(relay, {})
        each = [_KINDS[kind](samples) for samples in rounds.values()]
        return Figure.median(each) if each else None

    def ratio(self, key: str, ours: str, theirs: str, kind: str) -> Figure | None:
        """One relay's figure by the other's, of the rounds that have both; None without any."""
        a, b = (self.samples.get(key, {}).get(relay, {}) for relay in (ours, theirs))
        made = _KINDS[kind]
        pairs = [(made(a[number]), made(b[number])) for number in a if number in b]
        ratios = [ours / theirs for ours, theirs in pairs if ours >= 0 and theirs > 0]
        return Figure.median(ratios) if ratios else None
