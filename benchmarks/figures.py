"""Figures made of measurements: medians and percentiles with their ranges, spans."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

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


def percentile(share: float, samples: Sequence[float]) -> float:
    """A percentile by nearest rank: one of the samples."""
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
