"""BudgetedCaller: a ``Caller`` that asks another one only what the owner's budgets allow.

It stands before the upstreams, so that it sees each question to one: of an answer of a single call,
and each of a run. It draws what the question can take, has the answer be no longer than that, and
leaves the rest to whoever ends the session: ``Reservation.settle``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .accounting.budget import Budget, Left
from .accounting.budgets import Budgets
from .answers.coroutines import Coroutine
from .answers.producer import Call
from .answers.question import Question
from .answers.session import Reason, StreamSession
from .protocols.bounds import Bounds
from .upstreams.base import Caller

#: An application's function: the budgets of an owner; None leaves it to the settings.
Choose = Callable[[str], "Budget | Sequence[Budget] | None"]


class BudgetedCaller:
    """A ``Caller`` that keeps to budgets, if there are any.

    :param caller: is asked what they allow.
    :param budgets: keeps the accounts.
    :param of_settings: every owner's, for whom no function says otherwise.
    :param choosers: the application's functions, the first of which that says something counts.
    """

    def __init__(
        self,
        caller: Caller,
        budgets: Budgets,
        of_settings: Sequence[Budget],
        choosers: Sequence[Choose],
    ) -> None:
        self._caller = caller
        self._budgets = budgets
        self._of_settings = tuple(of_settings)
        self._choosers = choosers

    def call(self, question: Question, session: StreamSession) -> Call:
        """See ``Caller``. It may take a moment, as the workers share the accounts.

        :raises Refusal: if the budgets don't allow it; and see ``Caller``.
        """
        chosen = self._of(session.owner)
        if not chosen:
            return self._caller.call(question, session)
        bounds = Bounds(question.body, question.choices)
        with session.unconnected():
            grant = self._budgets.reserve(
                chosen, session.owner, question, bounds.prompt, bounds.completion
            )
        session.reservation, session.most_events = grant, grant.most_events
        question = question._replace(body=bounds.limited(grant.completion))
        try:
            call = self._caller.call(question, session)
        except BaseException:
            grant.give_back()
            raise
        return _CutCall(call, session) if grant.is_cut else call

    def close(self) -> None:
        """See ``Caller``."""
        self._caller.close()

    def left(self, owner: str) -> list[Left]:
        """What is left of an owner's budgets.

        :raises PeersUnavailable: if that can't be found out.
        """
        return self._budgets.left(self._of(owner), owner)

    def _of(self, owner: str) -> tuple[Budget, ...]:
        for choose in self._choosers:
            if (chosen := choose(owner)) is not None:
                return _listed(chosen)
        return self._of_settings


def _listed(chosen: Budget | Sequence[Budget]) -> tuple[Budget, ...]:
    budgets = (chosen,) if isinstance(chosen, Budget) else tuple(chosen)
    if not all(isinstance(each, Budget) for each in budgets):
        raise TypeError("What is chosen must be Budgets, or None.")
    return budgets


class _CutCall:
    """A ``Call`` whose answer may be cut shorter than was asked for: then it has been stopped."""

    def __init__(self, call: Call, session: StreamSession) -> None:
        self._call = call
        self._session = session
        self.open, self.abort, self.close = call.open, call.abort, call.close

    def receive(self) -> Coroutine[bool]:
        """See ``Call``."""
        ended = yield from self._call.receive()
        if ended and self._session.cut_short:
            self._session.cancel(Reason.BUDGET)
        return ended
