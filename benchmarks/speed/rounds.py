"""The rounds: in each, everything is measured of every relay.

A thing is measured of one relay after the other, before the next thing: so what is compared was
measured as close together as can be. Each time the relay has a fresh process, so nothing that one
measure leaves behind is part of another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from .. import command
from ..load import LoadError
from ..native import Upstream
from ..processes import Cores
from ..relays import Relay, Unavailable
from .measures import Measure
from .plan import Plan
from .results import Results
from .subject import FAILURES, NotHeld, Subject

_LETTERS = 160


class Rounds:
    """All rounds of a run.

    :param measures: in the order in which they are made.
    """

    def __init__(
        self, plan: Plan, relays: Sequence[Relay], measures: Sequence[Measure], cores: Cores
    ) -> None:
        self.results = Results()
        self._plan = plan
        self._cores = cores
        self._measures = measures
        self._relays = [relay for relay in relays if self._is_here(relay)]

    def _is_here(self, relay: Relay) -> bool:
        try:
            relay.install()
        except Unavailable as error:
            self.results.unavailable[relay.name] = str(error)
            return False
        self.results.relays[relay.name] = relay.title
        self.results.versions[relay.name] = relay.versions()
        return True

    def run(self, folder: Path) -> Results:
        """Measure everything.

        :param folder: for the logs.
        """
        often = [measure for measure in self._measures if not measure.once]
        once = [measure for measure in self._measures if measure.once]
        with Upstream(folder / "upstream.log", self._cores) as upstream:
            for number in range(1, self._plan.rounds + 1):
                self._round(number, often, upstream, folder)
            self._round(1, once, upstream, folder)
        return self.results

    def _round(
        self, number: int, measures: Sequence[Measure], upstream: Upstream, folder: Path
    ) -> None:
        """Another relay is the first in each."""
        first = (number - 1) % max(1, len(self._relays))
        with ExitStack() as stack:
            subjects = [
                stack.enter_context(self._subject(relay, upstream, folder))
                for relay in (*self._relays[first:], *self._relays[:first])
                if number <= self._plan.of(relay.name).rounds
            ]
            for measure in measures:
                if wanted := [subject for subject in subjects if self._applies(measure, subject)]:
                    self._turn(measure, wanted, number)
        for subject in subjects:
            self.results.points.setdefault(subject.relay.name, []).extend(subject.points)

    def _subject(self, relay: Relay, upstream: Upstream, folder: Path) -> Subject:
        subject = Subject(relay, self._plan.of(relay.name), upstream, self._cores, folder)
        if found := self.results.figure("most_streams", relay.name, ""):
            subject.expected = round(found.value)
        return subject

    def _applies(self, measure: Measure, subject: Subject) -> bool:
        """What was not held in one round is not asked again."""
        relay = subject.relay.name
        lost = self.results.lost.get(measure.name, {}).get(relay, "")
        wanted = measure.relays is None or relay in measure.relays
        return wanted and not lost.startswith("not held")

    def _turn(self, measure: Measure, subjects: Sequence[Subject], number: int) -> None:
        times = [time.monotonic()]
        for subject in subjects:
            self._take(measure, subject, number)
            times.append(time.monotonic())
        names = (subject.relay.name for subject in subjects)
        parts = [f"{name} {b - a:.0f}" for name, (a, b) in zip(names, pairwise(times), strict=True)]
        seconds = times[-1] - times[0]
        command.tell(f"round {number}, {measure.name}: {seconds:.0f} s ({', '.join(parts)})")

    def _take(self, measure: Measure, subject: Subject, number: int) -> None:
        relay = subject.relay.name
        subject.notes.clear()
        try:
            found = measure.take(subject)
        except FAILURES as error:
            subject.end()
            self._lose(measure, relay, number, error)
            return
        if self._plan.fresh:
            subject.end()
        subject.found.update(found)
        self.results.add(relay, number, found)
        if subject.notes:
            text = "; ".join(dict.fromkeys(subject.notes))
            self.results.notes.setdefault(measure.name, {})[relay] = text

    def _lose(self, measure: Measure, relay: str, number: int, error: BaseException) -> None:
        if isinstance(error, NotHeld):
            reason = f"not held: {error}"
        else:
            reason = f"failed: {_short(error)} (round {number})"
        self.results.lost.setdefault(measure.name, {})[relay] = reason
        command.tell(f"{measure.name} of {relay} {reason}")


def _short(error: BaseException) -> str:
    """What an error says, without the log that may come before."""
    error = error.__cause__ or error
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0 if isinstance(error, LoadError) else -1][:_LETTERS]
