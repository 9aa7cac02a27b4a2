"""One relay, alone on its core, with the streams and the Stops that it is put to.

Rules:

* The upstream and the clients have the other cores, and what they use is measured as well: whoever
  reads a figure can see that it is the relay's.
* Streams are opened some at a time. A relay that has no time left to begin others would keep them
  waiting for minutes; it does not hold them, and that is said (:class:`NotHeld`).
* Nothing is left of one measure when the next begins: the streams are closed, the upstream has seen
  it, and the relay is at rest.
"""

from __future__ import annotations

import itertools
import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests

from ..figures import Span
from ..load import LoadError
from ..native import Delays, Load, Stopped, Upstream
from ..processes import Cores
from ..relays import Relay, RunningRelay
from .kernel import most_descriptors, waited
from .plan import Plan

_PATH = "/v1/chat/completions"
_BLOCK = 100
_SECONDS_TO_SETTLE = 5.0
_SECONDS_TO_CLOSE = 5.0
_QUIET = 0.02  # of a core
_READING = 0.1
#: What a server needs beside its streams: its listeners, its log, the Stops of a moment.
_OTHER_DESCRIPTORS = 500

_tags = itertools.count(1)


class NotHeld(LoadError):
    """The streams are too many for the relay."""


#: A relay that breaks down shows it in one of these.
FAILURES = (LoadError, AssertionError, OSError, requests.RequestException)


class Subject:
    """A relay that is measured in a round.

    As a context it is one process, which is started when something is asked of it.

    :param folder: for the logs.
    """

    def __init__(
        self, relay: Relay, plan: Plan, upstream: Upstream, cores: Cores, folder: Path
    ) -> None:
        self.relay = relay
        self.plan = plan
        self.upstream = upstream
        self.cores = cores
        self.folder = folder
        #: By key, what was found in this round, for what is measured later and builds on it.
        self.found: dict[str, list[float]] = {}
        #: The most streams that it may be expected to hold, where another round has told.
        self.expected = 0
        #: What is to be said to the figures of the measure that runs.
        self.notes: list[str] = []
        #: Streams and the 99th percentile of their events' delays, in ms.
        self.points: list[tuple[int, float]] = []
        self._url = upstream.url
        self._stack = ExitStack()
        self._running: RunningRelay | None = None
        #: Why it does not start: to be seen once, or each measure would wait for it as long.
        self._fault: LoadError | None = None

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process; what is asked next is asked of a fresh one."""
        self._running = None
        self._stack.close()

    def note(self, text: str) -> None:
        """Say something to the figures of the measure that runs."""
        self.notes.append(text)

    def turn_to(self, url: str) -> None:
        """Have a fresh process that asks the upstream at this address."""
        self.end()
        self._url, self._fault = url, None

    @property
    def running(self) -> RunningRelay:
        """The process, warm: its first answers are behind it.

        :raises LoadError: where it gives none.
        """
        if self._fault:
            raise self._fault
        if self._running is None:
            try:
                self._running = self._start()
                self.answers(1, 1)
                self.answers(self.plan.warm_up_answers, self.plan.concurrency)
                self.settle()
            except FAILURES as error:
                self.end()
                self._fault = LoadError(str(error))
                raise self._fault from error
        return self._running

    def _start(self) -> RunningRelay:
        started = self.relay.start(self._url, self.cores, self.folder)
        running = self._stack.enter_context(started)
        self._load = self._stack.enter_context(self._clients(running, running.port))
        return running

    def _clients(self, running: RunningRelay, port: int, path: str | None = None) -> Load:
        return Load(
            port,
            path or running.path,
            running.body,
            running.headers,
            cancel_path=running.cancel_path,
            cores=self.cores,
        )

    # Streams

    @contextmanager
    def crowd(
        self, streams: int, rate: float, *, silent: bool = False, seconds: float | None = None
    ) -> Iterator[None]:
        """Streams that flow meanwhile, or that are silent after their first event.

        :param seconds: in which all must have begun, if not the plan's.
        """
        self.open(streams, rate, silent=silent, seconds=seconds)
        if silent:
            self.settle()
        else:
            time.sleep(self.plan.warm_up)
        yield
        self.rest()

    def open(
        self, streams: int, rate: float, *, silent: bool = False, seconds: float | None = None
    ) -> None:
        """Open so many streams more.

        :raises NotHeld: if they have not begun in this time, or in the plan's.
        """
        _ = self.running
        spec = f"rate={rate:g} tokens=0" + (" silent=1" if silent else "")
        end = time.monotonic() + (seconds or self.plan.seconds_to_open)
        for begun in range(0, streams, _BLOCK):
            opened = self._load.open(min(_BLOCK, streams - begun), self._tag(), spec)
            if opened.failed:
                said = opened.failures[0].partition("\r\n")[0] or "nothing was said"
                raise LoadError(f"after {begun} streams one did not begin: {said}")
            if (there := begun + opened.open) < streams and time.monotonic() > end:
                raise NotHeld(f"{there:,} of {streams:,} streams began in time")

    def leave(self, streams: int) -> None:
        """Close so many of the open ones."""
        self._load.stop(streams, 0, "leave")

    def rest(self) -> None:
        """Close all streams, and wait until the upstream has seen it and the relay is at rest."""
        self._load.close()
        end = time.monotonic() + _SECONDS_TO_CLOSE
        while (left := self.upstream.totals().open) and time.monotonic() < end:
            time.sleep(0.01)
        if left:
            raise LoadError(f"{left} answers ran on at the upstream when all clients had left")
        self.upstream.forget()
        self.settle()

    def settle(self) -> None:
        """Wait until the relay uses next to nothing; one that always does is not waited for."""
        end = time.monotonic() + _SECONDS_TO_SETTLE
        while self._used_in(_READING) > _QUIET * _READING and time.monotonic() < end:
            pass

    def _used_in(self, seconds: float) -> float:
        before = self.running.cpu()
        time.sleep(seconds)
        return self.running.cpu() - before

    def span(
        self, name: str, seconds: float, streams: int, rate: float
    ) -> tuple[Span, Delays | None]:
        """What comes to the open streams in this time, and what it costs.

        :raises NotHeld: if nothing comes.
        """
        running, before = self.running, self._load.mark()
        clocks = self._clocks(running)
        time.sleep(seconds)
        mark = self._load.mark()
        after = self._clocks(running)
        relay, upstream, waits = (b - a for a, b in zip(clocks, after, strict=True))
        if mark.ended:
            raise LoadError(f"{mark.ended} of {streams} streams were ended by the relay")
        if not mark.events:
            raise NotHeld(f"no event came in {seconds:g} s")
        whole, load = (mark.t - before.t) / 1e9, mark.cpu - before.cpu
        offered, events, served = streams * rate, mark.events, mark.served
        times = (relay, upstream, load, waits, 0.0)
        return Span(name, whole, events, streams, served, offered, *times), mark.delay_ms

    def _clocks(self, running: RunningRelay) -> tuple[float, float, float]:
        return running.cpu(), self.upstream.cpu(), waited(running.server.pids())

    # Answers

    def answers(self, number: int, concurrency: int) -> None:
        """Have so many answers of one token."""
        _ = self.running
        done = self._load.answers(number, concurrency, self._tag(), "rate=0 tokens=1")
        _check_whole(done.whole, number, done.failures)

    def first(self, number: int, interval: float) -> tuple[list[float], list[float]]:
        """The times to the first event in ms, through the relay, and of the upstream alone.

        Both are those of clients that do nothing else, beside whatever streams there are.
        """
        running, times = self.running, []
        for port, path in ((running.port, running.path), (self.upstream.port, _PATH)):
            with self._clients(running, port, path) as clients:
                done = clients.probe(number, interval, self._tag(), "rate=0 tokens=1")
            _check_whole(done.whole, number, done.failures)
            times.append(done.first)
        return times[0], times[1]

    # Stops

    def stop(self, number: int, interval: float, mode: str) -> tuple[list[float], list[float]]:
        """Stop so many: the times to the upstream's close in ms, and its later tokens.

        The upstream remembers no more than 16 of its sends.

        :param mode: ``cancel`` or ``leave``.
        """
        stops = self._load.stop(number, interval, mode)
        if refused := [stop.status for stop in stops if mode == "cancel" and stop.status != 200]:
            raise LoadError(f"{len(refused)} of {number} Stops were answered with {refused[0]}")
        end = time.monotonic() + _SECONDS_TO_CLOSE
        times, tokens = [], []
        for stop in stops:
            entry = self._gone(stop, end)
            times.append((entry[0] - stop.sent) / 1e6)
            tokens.append(float(sum(at > stop.sent for at in entry[1])))
        return times, tokens

    def _gone(self, stop: Stopped, end: float) -> tuple[int, list[int]]:
        """When the upstream saw its peer gone, and when its last events were sent."""
        while True:
            entry = self.upstream.ledger(stop.tag)[-1]
            if entry.gone is not None:
                return entry.gone, entry.last_sends
            if time.monotonic() > end:
                raise LoadError(f"an answer ran on for {_SECONDS_TO_CLOSE:.0f} s after its Stop")
            time.sleep(0.01)

    # What it holds

    def room(self) -> int:
        """The streams for which it may have files open on this machine."""
        some, before = 50, most_descriptors(self.running.server.pids())
        with self.crowd(some, 1, silent=True):
            opened = most_descriptors(self.running.server.pids()) - before
        each = max(1, round(opened / some))
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (limit - _OTHER_DESCRIPTORS) // each

    def _tag(self) -> str:
        return f"speed_{os.getpid()}_{next(_tags)}"


def _check_whole(whole: int, number: int, failures: list[str]) -> None:
    if whole < number:
        said = (failures or ["nothing was said"])[0].partition("\r\n")[0]
        raise LoadError(f"{number - whole} of {number} answers were not whole: {said}")
