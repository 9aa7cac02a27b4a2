"""Tries: which upstream is asked, which one next if it fails, and after what pause.

A question may be put to several upstreams, in their order, until one answers. All this is over with
the first event that a client gets. Rules:

* Another upstream is asked after any failure but one that is the question's own fault (400, 413,
  422: ``UpstreamError.elsewhere``), at once.
* The same upstream is asked again only if nothing can have come of it (``transient``): if the
  request was not written whole and not for long, or if it was busy (429, 503). That is when no
  other is left, after a pause that grows and honours its ``Retry-After``; the one with the shortest
  pause goes first.
* All upstreams together are sent ``CHATPROXY_TRIES`` requests at most: each may be billed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from ..answers.question import Question
from ..errors import UpstreamError
from .endpoint import Endpoint

#: The first pause before an upstream is asked again, in seconds; each further one is twice as long.
FIRST_PAUSE = 0.25
#: The longest pause that a ``Retry-After`` may ask for and be waited for, in seconds.
LONGEST_PAUSE = 20.0


class Tries:
    """The tries of one question.

    :param endpoints: the upstreams, at least one.
    :param most: how many requests may be sent.
    """

    __slots__ = ("_again", "_others", "_sent_to", "endpoint", "most", "pause", "question", "sent")

    def __init__(self, question: Question, endpoints: Iterable[Endpoint], most: int) -> None:
        self.question = question
        self.endpoint, *self._others = endpoints
        self.most = most
        #: How many requests have been sent, to any of them.
        self.sent = 0
        #: Seconds until the next one may be.
        self.pause = 0.0
        self._sent_to: dict[Endpoint, int] = {}
        #: Those that may answer later, and after how many seconds.
        self._again: list[tuple[float, Endpoint]] = []

    @property
    def has_others(self) -> bool:
        """Whether there is an upstream that could be asked and was not."""
        return bool(self._others) and self.sent < self.most

    def begin(self) -> None:
        """Note that a request is about to be sent to the present one."""
        self.sent += 1
        self._sent_to[self.endpoint] = self._sent_to.get(self.endpoint, 0) + 1

    def go_on(self, error: UpstreamError) -> bool:
        """Choose the next one after a failure; return whether there is any.

        From then on ``endpoint`` is the one to ask, after ``pause``.
        """
        if self.sent >= self.most or not (error.elsewhere or error.transient):
            return False
        if error.transient:
            pause = _pause_after(error, self._sent_to[self.endpoint])
            if pause <= LONGEST_PAUSE:
                self._again.append((pause, self.endpoint))
        if self._others:
            self.pause, self.endpoint = 0.0, self._others.pop(0)
            return True
        if not self._again:
            return False
        soonest = min(self._again, key=lambda each: each[0])
        self._again.remove(soonest)
        self.pause, self.endpoint = soonest
        return True


def _pause_after(error: UpstreamError, number: int) -> float:
    """Seconds until an upstream may be asked again, after so many requests and this failure."""
    pause = random.uniform(0.5, 1.0) * FIRST_PAUSE * float(2 ** (number - 1))  # noqa: S311
    return pause if error.pause is None else max(pause, error.pause)  # servers say 0, too
