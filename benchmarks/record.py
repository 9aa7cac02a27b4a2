"""The record of a storm: what was sampled each second, and what it amounts to."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .figures import percentile

#: MB by which the mean of a worker's memory may grow from the third quarter of a storm to the last.
#: Memory that was used once is seldom given back, so that a worker grows for some minutes, to the
#: size of the most that it ever has at once, and stays there; by then it has had some thousand
#: sessions. What is tolerated is what twenty more at once can hold, with 256 KB each. In a storm of
#: ten minutes, a leak of 11 KB for each session would be more.
MEMORY_TOLERANCE = 5.0


@dataclass(frozen=True)
class Sample:
    """One second. ``at`` is seconds from the beginning of the storm.

    :param live: sessions whose clients are there.
    :param memory: the resident set of each worker, in MB.
    :param busy: the share of the machine's time that was used, by whatever runs on it.
    :param saturated: workers that had not a moment of rest.
    """

    at: float
    live: int
    memory: dict[int, float]
    busy: float
    saturated: int = 0


@dataclass(frozen=True)
class Stop:
    """A confirmed Stop: ms from its sending to the upstream's seeing its peer gone; the receipt's.

    ``calm`` says that no worker was frozen, killed or saturated meanwhile.
    """

    at: float
    to_close: float
    stop_ms: float
    calm: bool


@dataclass(frozen=True)
class Event:
    """Something that was done to a worker."""

    at: float
    kind: str
    pid: int
    seconds: float
    connections_lost: int


@dataclass
class Record:
    """All of a storm."""

    seconds: float
    samples: list[Sample] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sessions: dict[str, int] = field(default_factory=dict)
    stop_answers: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def growth(self) -> dict[int, list[float]]:
        """MB in each quarter but the first, of each worker that was there all the time."""
        quarter = self.seconds / 4
        storm = [sample for sample in self.samples if sample.at <= self.seconds]

        def mean(pid: int, begin: float) -> float:
            found = (s.memory.get(pid) for s in storm if begin <= s.at < begin + quarter)
            return statistics.mean(each for each in found if each is not None)

        oldest = [pid for pid in storm[-1].memory if pid in storm[0].memory]
        return {pid: [mean(pid, number * quarter) for number in (1, 2, 3)] for pid in oldest}

    def grown(self) -> Iterator[str]:
        """Which of these workers still grow at the end."""
        for pid, (_, third, last) in self.growth().items():
            if last - third > MEMORY_TOLERANCE:
                yield f"worker {pid} has grown from {third:.1f} MB to {last:.1f} MB"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "memory_of_the_oldest_mb": self.growth()}

    def text(self) -> str:
        """What it amounts to."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        storm = [sample for sample in self.samples if sample.at <= self.seconds]
        live = [sample.live for sample in storm[len(storm) // 4 :]]
        number = sum(self.sessions.values())
        yield f"{number} sessions in {self.seconds:.0f} s: {_said(self.sessions)}"
        yield f"live at once: {statistics.mean(live):.0f} on average, {max(live)} at the most"
        busy = statistics.mean(sample.busy for sample in storm)
        yield f"the machine was busy for {busy:.0%} of the time, with all that ran on it"
        saturated = sum(sample.saturated > 0 for sample in storm)
        yield f"in {saturated} seconds a worker had not a moment of rest"
        kills, freezes = self.of_kind("kill"), self.of_kind("freeze")
        lost = sum(event.connections_lost for event in kills)
        yield f"{len(kills)} workers killed with {lost} connections, {len(freezes)} frozen"
        yield f"answers to Stops: {_said(self.stop_answers)}"
        yield from self._stop_lines()
        for pid, quarters in self.growth().items():
            second, third, last = (f"{each:.1f}" for each in quarters)
            yield f"worker {pid}: {second} MB in the second quarter, {third}, {last} in the last"

    def _stop_lines(self) -> Iterator[str]:
        for name, stops in (
            ("all Stops", self.stops),
            (
                "no worker frozen, killed or saturated meanwhile",
                [stop for stop in self.stops if stop.calm],
            ),
        ):
            if stops:
                to_close = _percentiles([stop.to_close for stop in stops])
                yield f"sent to upstream closed, {name} ({len(stops)}): {to_close}"
                yield f"stopMs, {name}: {_percentiles([stop.stop_ms for stop in stops])}"


def _percentiles(values: Sequence[float]) -> str:
    p50, p99 = (percentile(share, values) for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {max(values):.1f} ms"


def _said(counts: dict[Any, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items(), key=str))
