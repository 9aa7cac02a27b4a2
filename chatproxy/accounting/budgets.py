"""Budgets: what is drawn before a question, what is charged after it, and what is refused.

Each budget has an account for each owner and period (``Accounts``), which all workers share. All
amounts are whole numbers: tokens, or nano-units of a currency.

* *Reserve.* Before a question goes upstream, the most that it can take is drawn from each of its
  owner's accounts: the bound of its prompt, and an answer of the length that the client allows, or
  that the settings do. If less is left, the answer may be shorter; if it is too little even for the
  prompt and one token, the question is refused (``BudgetSpent``). What is granted is sent upstream
  as the most tokens of the answer. So nothing can be spent that was not drawn before, however many
  answers run at once, and on which workers.
* *Settle.* However the answer ends, what it has taken is charged in place of what was drawn
  (``Grant.settle``). It does not matter whether the provider's count has come: what an answer has
  taken until it was stopped or left is counted or estimated. An estimate of the answer counts with
  its upper end. One of the prompt has none (digits and symbols take far more tokens than words), so
  the prompt's bound counts.
* Nobody waits for a settlement, except the same owner's next question on this worker, and that for
  ``_PATIENCE`` at the most.

What a request counts for:

===================================  ===============================================================
nothing was sent, or it was refused  nothing
with an error (4xx, 503)
it finished, with its usage          the provider's numbers
it was stopped, or broke off         its prompt, as counted, or its bound; and what came: as counted
                                     or estimated, and no less than a token an event; all that was
                                     granted if its service goes on after a close
                                     (``billing_stops``)
another request was sent after it    its prompt, beside what the last request takes
===================================  ===============================================================

Periods are days and months of UTC.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import Protocol

from ..answers.question import Question
from ..answers.reservation import AccountKey, Accounts, Draw
from ..answers.upstream import CONFIGURED
from ..errors import BudgetSpent, PeersUnavailable, Refusal
from .budget import MOST, NANO, TOKENS, Budget, Left, Period, shown_time, tightest
from .grant import Grant, Rate, Share

_MILLION = Decimal(10**6)
#: Seconds for which a question waits for settlements, or for what another one asks the records.
_PATIENCE = 5.0


class Rates(Protocol):
    """What a million tokens cost."""

    @property
    def input(self) -> Decimal:
        """Of the prompt."""

    @property
    def output(self) -> Decimal:
        """Of the answer."""


class Prices(Protocol):
    """What tokens cost."""

    def rates(
        self, upstream: str, models: Sequence[str], at: dt.datetime, *, dearest: bool = False
    ) -> tuple[Rates, str] | None:
        """The rates of a model, and their currency; None if that is not known."""


#: What an owner has spent since a time, as records say: tokens, and nano-units by currency.
Spent = Callable[[str, dt.datetime], "tuple[int, dict[str, int]]"]


class Budgets:
    """The budgets of an application's owners.

    :param accounts: what the workers share.
    :param prices: for budgets of money.
    :param spent: asked when an account begins, so that a restart doesn't renew a budget; None if
        there are no records.
    :param max_tokens: how long an answer may become if its client doesn't say.
    :param now: seconds since 1970.
    """

    def __init__(
        self,
        accounts: Accounts,
        prices: Prices,
        spent: Spent | None,
        max_tokens: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._prices = prices
        self._spent = spent
        self._max_tokens = max_tokens
        self._now = now
        self._lock = threading.Lock()
        #: The accounts that are about to begin, each with what is set when that is done.
        self._beginning: dict[AccountKey, threading.Event] = {}
        self._endings = _Endings()

    def reserve(
        self,
        budgets: Iterable[Budget],
        owner: str,
        question: Question,
        prompt: int,
        completion: int | None,
    ) -> Grant:
        """Draw what a question can take at most from all of its owner's budgets.

        :param prompt: the most tokens that it has.
        :param completion: the most that its client wants of the answer, of all choices together;
            None if it doesn't say.
        :raises BudgetSpent: if there is too little left of one.
        :raises Refusal: if a model has no price.
        :raises PeersUnavailable: if the accounts can't be reached.
        """
        self._endings.wait(owner)
        wanted = completion or self._max_tokens * question.choices
        shares = [self._share(budget, owner, question) for budget in tightest(budgets)]
        grant = Grant(
            self._accounts,
            shares,
            prompt=prompt,
            wanted=wanted,
            choices=question.choices,
            rate_asked=partial(self._rate_asked, question._replace(body=b"")),
            announce=partial(self._endings.add, owner),
        )
        refused: list[tuple[Share, Draw]] = []
        try:
            for share in shares:
                draw = self._draw(share, grant)
                if not draw.amount:
                    refused.append((share, draw))
                elif not refused:
                    grant.completion = share.rate.completion_for(
                        draw.amount, prompt, grant.completion
                    )
        except BaseException:
            grant.give_back()
            raise
        if refused:
            grant.give_back()
            raise max((self._refusal(*each, grant) for each in refused), key=_lasts)
        grant.completion -= grant.completion % question.choices
        return grant

    def left(self, budgets: Iterable[Budget], owner: str) -> list[Left]:
        """What is left of an owner's budgets.

        :raises PeersUnavailable: if the accounts can't be reached.
        """
        self._endings.wait(owner)
        shares = [Share(each, owner, self._period(each), Rate()) for each in tightest(budgets)]
        return [
            Left(share.budget, share.budget.shown(self._take(share, 0, 0).left), share.period.until)
            for share in shares
        ]

    def _share(self, budget: Budget, owner: str, question: Question) -> Share:
        rate = self._rate(budget, question, self._time(), dearest=True)
        return Share(budget, owner, self._period(budget), rate)

    def _time(self, ago: float = 0.0) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._now() - ago, dt.timezone.utc)

    def _period(self, budget: Budget) -> Period:
        return Period.of(budget.per, self._time())

    def _rate_asked(
        self, question: Question, budget: Budget, asked_at: float | None, upstream: str
    ) -> Rate:
        """What a token has taken of a question that was asked then, of the monotonic clock.

        :param upstream: of which upstream it was asked; "" for several.
        """
        ago = 0.0 if asked_at is None else time.monotonic() - asked_at
        asked = tuple(each for each in question.upstreams if upstream in ("", each.name))
        question = question._replace(upstreams=asked or question.upstreams)
        return self._rate(budget, question, self._time(ago), dearest=False)

    def _rate(self, budget: Budget, question: Question, at: dt.datetime, *, dearest: bool) -> Rate:
        """What a token takes at the dearest of its upstreams.

        :param dearest: whether that is in the dearest hours, whatever the time.
        """
        if budget.unit == TOKENS:
            return Rate()
        asked = [(each.name, each.model) for each in question.upstreams] or [(CONFIGURED, "")]
        found = []
        for upstream, model in asked:
            models = (model or question.model, question.model)
            price = self._prices.rates(upstream, models, at, dearest=dearest)
            if price is None or price[1] != budget.unit:
                raise Refusal(
                    f"This model has no price in {budget.unit}, which a budget of {budget} needs.",
                    code="model_not_priced",
                )
            found.append(price[0])
        per_token = NANO / _MILLION
        return Rate(
            max(each.input for each in found) * per_token,
            max(each.output for each in found) * per_token,
        )

    def _draw(self, share: Share, grant: Grant) -> Draw:
        rate = share.rate
        draw = self._take(
            share,
            max(1, rate.of(grant.prompt, grant.choices)),
            max(1, rate.of(grant.prompt, grant.completion)),
        )
        if draw.amount:
            share.draws.append(draw)
        return draw

    def _take(self, share: Share, least: int, wanted: int) -> Draw:
        draw = share.draw(self._accounts, least, wanted)
        if draw is None:
            draw = self._begin(share, least, wanted)
        return draw

    def _begin(self, share: Share, least: int, wanted: int) -> Draw:
        """Draw from an account that is not there. One question begins it, others wait for that."""
        with self._lock:
            begun = self._beginning.get(share.account)
            is_mine = begun is None
            begun = self._beginning.setdefault(share.account, threading.Event())
        if is_mine:
            try:
                draw = share.draw(self._accounts, least, wanted, self._spent_before(share))
            finally:
                del self._beginning[share.account]
                begun.set()
        else:
            begun.wait(_PATIENCE)
            draw = share.draw(self._accounts, least, wanted)
        if draw is None:
            raise spent_unknown()
        return draw

    def _spent_before(self, share: Share) -> int:
        if self._spent is None:
            return 0
        tokens, money = self._spent(share.owner, share.period.since)
        return min(MOST, tokens if share.budget.unit == TOKENS else money.get(share.budget.unit, 0))

    def _refusal(self, share: Share, draw: Draw, grant: Grant) -> BudgetSpent:
        budget, needed = share.budget, share.rate.of(grant.prompt, grant.choices)
        if needed > budget.most:
            return BudgetSpent(f"This question is too large for the budget of {budget}.")
        until = share.period.until
        state = "is spent"
        if draw.left:
            state = f"has {budget.told(draw.left)} left, which is too little for this question"
        return BudgetSpent(
            f"The budget of {budget} {state}; it is free again at {shown_time(until)}.",
            retry_after=max(1, math.ceil(until.timestamp() - self._now())),
        )


def spent_unknown() -> PeersUnavailable:
    """The refusal if an account can't begin."""
    return PeersUnavailable("What was spent before cannot be read; try again.", retry_after=1)


class _Endings:
    """The settlements of this worker that are about to be made, by owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, set[threading.Event]] = {}

    def add(self, owner: str) -> Callable[[], None]:
        """Note that there will be one; returns what is called when it was made."""
        made = threading.Event()
        with self._lock:
            self._live.setdefault(owner, set()).add(made)

        def end() -> None:
            with self._lock:
                live = self._live.get(owner, set())
                live.discard(made)
                if not live:
                    self._live.pop(owner, None)
            made.set()

        return end

    def wait(self, owner: str) -> None:
        """Wait for those of an owner, so that what they give back is there."""
        with self._lock:
            live = list(self._live.get(owner, ()))
        end = time.monotonic() + _PATIENCE
        for made in live:
            made.wait(max(0.0, end - time.monotonic()))


def _lasts(refusal: BudgetSpent) -> float:
    return math.inf if refusal.retry_after is None else refusal.retry_after
