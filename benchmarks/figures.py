"""Figures made of measurements: medians with their ranges, ratios, percentiles, spans."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_BUSY = 0.9
_DELIVERED = 0.97


@dataclass(frozen=True)
class Figure:
    """One value with the lowest and the highest of its rounds."""

    value: float
    low: float
    high: float

    @classmethod
    def median(cls, rounds: Sequence[float]) -> Figure:
        """The median of the rounds."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))

    @classmethod
    def percentile(cls, share: float, rounds: Sequence[Sequence[float]]) -> Figure:
        """The percentile of all samples; the range is that of the rounds' own percentiles.

        :param share: 0.5 is the median, 0.99 the 99th percentile; nearest rank.
        """
        each = [percentile(share, samples) for samples in rounds]
        together = [sample for samples in rounds for sample in samples]
        return cls(percentile(share, together), min(each), max(each))

    def __str__(self) -> str:
        value, low, high = map(_short, (self.value, self.low, self.high))
        return f"{value} ({low}-{high})"


@dataclass(frozen=True)
class Comparison:
    """The same measured of chatproxy and of the plain relay, in the same rounds."""

    name: str
    unit: str
    chatproxy: Figure
    plain: Figure
    ratio: Figure

    @classmethod
    def of(cls, name: str, unit: str, rounds: dict[str, list[float]]) -> Comparison:
        """Compare ``rounds["chatproxy"]`` with ``rounds["plain"]``, round by round."""
        ours, theirs = rounds["chatproxy"], rounds["plain"]
        ratio = Figure.median([a / b for a, b in zip(ours, theirs, strict=True)])
        return cls(name, unit, Figure.median(ours), Figure.median(theirs), ratio)


@dataclass(frozen=True)
class Span:
    """A span of time under load.

    :param seconds: how long it was.
    :param events: what the clients received in it, of all streams together.
    :param streams: how many streams there were, and ``served`` those to which an event came.
    :param offered: events per second that the upstream was asked for; None for all it can do.
    :param worker: CPU seconds of the proxy's worker; ``upstream`` and ``load`` likewise.
    :param worker_waited: seconds in which the worker was ready to run and had no core.
    """

    name: str
    seconds: float
    events: int
    streams: int
    served: int
    offered: float | None
    worker: float
    upstream: float
    load: float
    worker_waited: float
    upstream_waited: float

    @property
    def rate(self) -> float:
        """Events that were delivered per second."""
        return self.events / self.seconds

    @property
    def microseconds(self) -> float:
        """CPU time of the worker for each event, in µs."""
        return self.worker / self.events * 1e6

    def limit(self, cores: int) -> str:
        """What kept the rate from being higher.

        :param cores: how many the upstream and the load have together.
        """
        if self.offered is not None and self.rate >= _DELIVERED * self.offered:
            return "none, as paced"
        worker, upstream, load = (x / self.seconds for x in (self.worker, self.upstream, self.load))
        if worker >= _BUSY:
            return "the worker"
        if max(upstream, load) >= _BUSY or upstream + load >= _BUSY * cores:
            return "upstream and load"
        if worker + self.worker_waited / self.seconds >= _BUSY:
            return "the worker, kept waiting by other work"
        return "unclear, none was busy all the time"

    def as_json(self, cores: int) -> dict[str, Any]:
        return {**asdict(self), "rate": self.rate, "limit": self.limit(cores)}


@dataclass
class Results:
    """All that was measured.

    ``stops`` has the 50th and the 99th percentile in ms, for each way in which a Stop was timed;
    each is of ``number_of_stops``.
    """

    number_of_stops: int
    stops: dict[str, tuple[Figure, Figure]] = field(default_factory=dict)
    by_phase: dict[str, dict[str, Figure]] = field(default_factory=dict)
    costs: list[Comparison] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)


def merged(spans: Sequence[Span]) -> Span:
    """Spans of the same kind as one; of ``served`` the least."""
    return Span(
        spans[0].name,
        sum(span.seconds for span in spans),
        sum(span.events for span in spans),
        spans[0].streams,
        min(span.served for span in spans),
        spans[0].offered,
        sum(span.worker for span in spans),
        sum(span.upstream for span in spans),
        sum(span.load for span in spans),
        sum(span.worker_waited for span in spans),
        sum(span.upstream_waited for span in spans),
    )


def percentile(share: float, samples: Sequence[float]) -> float:
    """A percentile by nearest rank: one of the samples."""
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
