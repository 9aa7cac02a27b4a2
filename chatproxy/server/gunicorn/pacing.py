"""Pacing: fairness between connections, by turns of the event loop and shares of a core.

gevent's ``recv`` does not yield while there is data, so a peer that sends without pause would keep
the loop to itself. A ``Pacer`` for each connection is told how long the connection has run, and
says when it has to yield:

1. After ``SLICE`` seconds it yields, so that everybody else has a turn.
2. It may use ``BURST`` seconds at once, more than an honest request takes, and ``REFILL`` of a core
   in the long run: a token bucket. That much is free.
3. What it uses beyond that is charged to one ``LeakyBucket`` for all connections of the worker,
   which lets ``SHARE`` of a core through and makes the rest sleep. So a hundred greedy connections
   together use little more than one.

Invariants:

* A connection that stays within its burst and refill never sleeps, whatever the others do.
* Time in which a connection waited, for its client or for its turn, is never charged.

Times are seconds by a clock of the caller's. Nothing here waits.
"""

from __future__ import annotations

SLICE = 0.001
BURST = 0.002
REFILL = 0.002
SHARE = 0.4
#: Seconds by which the greedy may run ahead of their share before they sleep.
TOLERANCE = 0.002
#: The most seconds that are charged for one request if the next one is there already. The
#: application may have waited meanwhile, which costs nobody anything.
LONGEST = 0.005


class LeakyBucket:
    """What all greedy connections of a worker use together, by the generic cell rate algorithm."""

    def __init__(self) -> None:
        self._charged_until = 0.0

    def charge(self, seconds: float, now: float) -> float:
        """Charge so much work; return how long its connection must sleep."""
        self._charged_until = max(self._charged_until, now) + seconds / SHARE
        return max(0.0, self._charged_until - now - TOLERANCE)


class Pacer:
    """What one connection has used.

    :param bucket: charged for what it uses beyond its burst and refill.
    """

    __slots__ = ("_bucket", "_request", "_run", "_since", "_used", "_used_at")

    def __init__(self, bucket: LeakyBucket, now: float) -> None:
        self._bucket = bucket
        self._since = now  # all before is charged
        self._used = 0.0  # of the burst
        self._used_at = now
        self._run = 0.0  # since it last yielded
        self._request = 0.0  # for its last request, if the next one was there already

    def work(self, now: float) -> float | None:
        """Charge what was done since the last call.

        :returns: how long to sleep, which is 0 to yield only; None to go on.
        """
        seconds = now - self._since + self._request
        self._since, self._request = now, 0.0
        self._run += seconds
        used = self._used - (now - self._used_at) * REFILL
        self._used, self._used_at = max(0.0, used) + seconds, now
        pause = 0.0
        if self._used > BURST:
            excess, self._used = self._used - BURST, BURST
            pause = self._bucket.charge(excess, now)
        return pause if pause or self._run > SLICE else None

    def serve(self, now: float) -> None:
        """Note that a request was served: charged only if the next one was there already."""
        self._request = min(now - self._since, LONGEST)
        self._since = now

    def rest(self, now: float) -> None:
        """Note that the connection has waited, or slept: nothing since then is charged."""
        self._since, self._request, self._run = now, 0.0, 0.0
