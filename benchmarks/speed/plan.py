"""How much is measured: the whole, a small run, and less for a relay that is far slower."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: The relays that can't hold what the others hold, by name.
SLOW = frozenset({"litellm"})

#: Of which relays the most streams that one process may have are looked at.
VERY_MANY = frozenset({"chatproxy", "nginx"})


@dataclass(frozen=True)
class Plan:
    """How much is measured. Times are seconds, rates are events per second and stream.

    :param rounds: how often all is measured; once is enough of a relay that is far slower.
    :param fresh: whether a relay has a fresh process for each measure, or one in each round.
    :param warm_up: how long streams flow before they are measured.
    :param warm_up_answers: how many a process has given before anything is measured of it.
    :param streams: for what is measured beside many streams; 0 where they are not held.
    :param span: how long the cost of events is measured.
    :param search: from how many streams to how many the most is looked for.
    :param half_rate: the rate at which there is half of the most that the relay can deliver.
    :param interval: milliseconds between answers to the first event of which the time is taken.
    :param stop_interval: milliseconds between Stops.
    """

    rounds: int = 3
    fresh: bool = True
    warm_up: float = 2.0
    warm_up_answers: int = 500
    span: float = 3.0
    steady: tuple[int, int] = (100, 50)
    streams: int = 1000
    rate: int = 50
    slow_rate: int = 5
    stop_rate: int = 20
    memory_streams: int = 1000
    answers: int = 1000
    concurrency: int = 8
    probes: int = 100
    interval: float = 10.0
    search: tuple[int, int] = (100, 1600)
    search_span: float = 1.5
    half_rate: int = 50
    stops: int = 60
    stop_interval: float = 20.0
    very_many: int = 10_000
    very_many_stops: int = 100
    very_many_span: float = 5.0
    seconds_to_open: float = 15.0
    seconds_to_open_very_many: float = 120.0

    def of(self, name: str) -> Plan:
        """The plan for the relay with this name."""
        if name not in SLOW:
            return self
        return replace(
            self,
            rounds=1,
            steady=(self.steady[0], 10),
            streams=0,
            memory_streams=self.memory_streams // 10,
            answers=self.answers // 20,
            warm_up_answers=self.warm_up_answers // 20,
            probes=self.probes // 4,
            interval=10 * self.interval,
            search=(10, self.search[1]),
            half_rate=10,
        )


FULL = Plan()
QUICK = Plan(
    rounds=1,
    fresh=False,
    warm_up=0.1,
    warm_up_answers=20,
    span=0.3,
    steady=(10, 50),
    streams=40,
    memory_streams=20,
    answers=20,
    probes=5,
    search=(20, 40),
    search_span=0.3,
    stops=4,
    very_many=100,
    very_many_stops=5,
    very_many_span=1.0,
)
