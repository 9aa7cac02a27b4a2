"""How long one connection may keep the event loop, and how much of a core the greedy ones share.

gevent's ``recv`` does not yield while there is data, so a peer that sends without pause would keep
the loop to itself. Each connection therefore has a ``Pace``, which is told how long the connection
has run, and says when it has to give way:

* after ``SLICE`` seconds it yields, so that everybody else has a turn;
* it may use ``BURST`` seconds at once, more than an honest request takes, and ``REFILL`` of a core
  in the long run. What it uses beyond that it pays for;
* all that pay share one ``Toll``, which lets ``SHARE`` of a core through and has the rest sleep: a
  hundred greedy connections together take little more than one.

Times are seconds by a clock of the caller's; nothing here waits.
"""

from __future__ import annotations

SLICE = 0.001
BURST = 0.005
REFILL = 0.002
SHARE = 0.4
#: Seconds by which the greedy may run ahead of their share before they sleep.
TOLERANCE = 0.002
#: The longest time for which one request is charged if the next one is there already. It may have
#: waited meanwhile, which costs nobody anything.
LONGEST = 0.005


class Toll:
    """What all greedy connections of a worker pay together: a leaky bucket (GCRA)."""

    def __init__(self) -> None:
        self._paid_until = 0.0

    def pay(self, seconds: float, now: float) -> float:
        """Take note of so much work; return how long its connection must sleep."""
        self._paid_until = max(self._paid_until, now) + seconds / SHARE
        return max(0.0, self._paid_until - now - TOLERANCE)


class Pace:
    """What one connection has used, and owes."""

    def __init__(self, toll: Toll, now: float) -> None:
        self._toll = toll
        self._since = now  # what came before is accounted for
        self._used = 0.0  # of the burst
        self._used_at = now
        self._run = 0.0  # since it last gave way
        self._served = 0.0  # for its last request, if the next one was there already

    def work(self, now: float) -> float | None:
        """Charge what was done since the last call.

        :returns: how long to sleep, which may be 0 to yield; None to go on.
        """
        seconds = now - self._since + self._served
        self._since, self._served = now, 0.0
        self._run += seconds
        used = self._used - (now - self._used_at) * REFILL
        self._used, self._used_at = max(0.0, used) + seconds, now
        pause = 0.0
        if self._used > BURST:
            excess, self._used = self._used - BURST, BURST
            pause = self._toll.pay(excess, now)
        return pause if pause or self._run > SLICE else None

    def serve(self, now: float) -> None:
        """Note that a request was served; charged only if the next one was there already."""
        self._served = min(now - self._since, LONGEST)
        self._since = now

    def rest(self, now: float) -> None:
        """Note that the connection has waited, or slept: nothing since then is charged."""
        self._since, self._served, self._run = now, 0.0, 0.0
