"""Budgets: what an owner may spend in a day or a month, in tokens or in money.

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
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from functools import partial
from typing import NamedTuple, Protocol

from ..answers.question import Question
from ..answers.reservation import AccountKey, Accounts, Draw
from ..answers.session import Outcome, Phase, StreamSession
from ..answers.upstream import CONFIGURED, BillingStops
from ..answers.usage import Usage, UsageSource
from ..errors import BudgetSpent, PeersUnavailable, Refusal

logger = logging.getLogger("chatproxy")

#: The unit of a budget that is not one of money.
TOKENS = "tokens"
_NANO = Decimal(10**9)
_MILLION = Decimal(10**6)
#: The largest budget, in its unit's smallest parts; a Redis counts exactly up to 2**53.
_MOST = 9 * 10**15
#: Seconds for which a question waits for settlements, or for what another one asks the records.
_PATIENCE = 5.0
#: Seconds for which an account is kept after its period: answers end that began in it.
_KEPT_SECONDS = 2 * 86_400
#: An upstream that sends so many events beyond what was granted does not keep to it. One event has
#: a token or more, but some services cut tokens into several.
_SLACK_FACTOR, _SLACK = 2, 64


@dataclass(frozen=True)
class Budget:
    """What an owner may spend in a day or a month (UTC): so many tokens, or so much money.

    :param tokens: of questions and answers together.
    :param amount: an amount of money: a whole number, a ``Decimal``, or text such as ``"0.50"``.
    :param currency: its currency, three letters, as the prices have it.
    :param per: ``"day"`` or ``"month"``.
    :raises ValueError: if it is neither tokens nor money, or both; or if one of these can't be
        used.
    """

    tokens: int | None = None
    _: KW_ONLY
    amount: int | str | Decimal | None = None
    currency: str = ""
    per: str = "day"
    #: How much, in the smallest parts of ``unit``: tokens, or nano-units.
    most: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check all of it."""
        if (self.tokens is None) == (self.amount is None):
            raise ValueError("A Budget has tokens, or an amount and its currency.")
        if self.per not in ("day", "month"):
            raise ValueError("A Budget is per 'day' or 'month'.")
        if self.amount is None:
            most = self.tokens if type(self.tokens) is int and not self.currency else 0
        else:
            is_currency = len(self.currency) == 3 and self.currency.isalpha()
            if not is_currency or not self.currency.isascii() or not self.currency.isupper():
                raise ValueError("The currency of a Budget has three letters, such as 'USD'.")
            most = _nano(self.amount)
        if most is None or not 0 < most <= _MOST:
            raise ValueError(
                "A Budget is a whole number of tokens, or an amount such as '5' or '0.50', greater "
                f"than 0 and at most {_MOST} tokens or {_MOST // 10**9} of a currency."
            )
        object.__setattr__(self, "most", most)

    @property
    def unit(self) -> str:
        """``"tokens"``, or the currency."""
        return self.currency or TOKENS

    def shown(self, parts: int) -> int | Decimal:
        """So many of the smallest parts, in ``unit``."""
        return parts if self.unit == TOKENS else (Decimal(parts) / _NANO).normalize()

    def __str__(self) -> str:
        return f"{self.told(self.most)} {self.unit} a {self.per}"

    def told(self, parts: int) -> str:
        """The same as text."""
        shown = self.shown(parts)
        return f"{shown:,}" if isinstance(shown, int) else f"{shown:,f}"


def _nano(amount: object) -> int:
    """An amount in nano-units; 0 if it can't be one."""
    if isinstance(amount, bool) or not isinstance(amount, (int, str, Decimal)):
        return 0
    try:
        parts = Decimal(amount) * _NANO
    except InvalidOperation:
        return 0
    return int(parts) if parts.is_finite() and parts == int(parts) else 0


class Left(NamedTuple):
    """What is left of a budget.

    :ivar left: in the budget's unit; what running answers have drawn is not in it.
    :ivar until: when all of it is free again.
    """

    budget: Budget
    left: int | Decimal
    until: dt.datetime

    def as_json(self) -> dict[str, object]:
        """As clients get it; amounts of money are numbers."""
        limit = self.budget.shown(self.budget.most)
        return {
            "unit": self.budget.unit,
            "per": self.budget.per,
            "limit": limit if isinstance(limit, int) else float(limit),
            "left": self.left if isinstance(self.left, int) else float(self.left),
            "freeAt": _shown_time(self.until),
        }


class _Period(NamedTuple):
    """A day or a month; times are UTC."""

    since: dt.datetime
    until: dt.datetime

    @classmethod
    def of(cls, per: str, now: dt.datetime) -> _Period:
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if per == "day":
            return cls(day, day + dt.timedelta(days=1))
        first = day.replace(day=1)
        return cls(first, (first + dt.timedelta(days=32)).replace(day=1))


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


class _Rate(NamedTuple):
    """What a token takes of a budget, in its smallest parts."""

    prompt: Decimal = Decimal(1)
    completion: Decimal = Decimal(1)

    def of(self, prompt: int, completion: int) -> int:
        whole = self.prompt * prompt + self.completion * completion
        return int(whole.to_integral_value(ROUND_CEILING))

    def completion_for(self, amount: int, prompt: int, most: int) -> int:
        """How many tokens of an answer an amount is for, beside its prompt; ``most`` at most."""
        if not self.completion:
            return most
        rest = (amount - self.prompt * prompt) / self.completion
        return min(most, int(rest.to_integral_value(ROUND_FLOOR)))


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
        shares = [self._share(budget, owner, question) for budget in _tightest(budgets)]
        grant = Grant(
            self._accounts,
            shares,
            prompt=prompt,
            wanted=wanted,
            choices=question.choices,
            rate_asked=partial(self._rate_asked, question._replace(body=b"")),
            announce=partial(self._endings.add, owner),
        )
        refused: list[tuple[_Share, Draw]] = []
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
        shares = [_Share(each, owner, self._period(each), _Rate()) for each in _tightest(budgets)]
        return [
            Left(share.budget, share.budget.shown(self._take(share, 0, 0).left), share.period.until)
            for share in shares
        ]

    def _share(self, budget: Budget, owner: str, question: Question) -> _Share:
        rate = self._rate(budget, question, self._time(), dearest=True)
        return _Share(budget, owner, self._period(budget), rate)

    def _time(self, ago: float = 0.0) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._now() - ago, dt.timezone.utc)

    def _period(self, budget: Budget) -> _Period:
        return _Period.of(budget.per, self._time())

    def _rate_asked(
        self, question: Question, budget: Budget, asked_at: float | None, upstream: str
    ) -> _Rate:
        """What a token has taken of a question that was asked then, of the monotonic clock.

        :param upstream: of which upstream it was asked; "" for several.
        """
        ago = 0.0 if asked_at is None else time.monotonic() - asked_at
        asked = tuple(each for each in question.upstreams if upstream in ("", each.name))
        question = question._replace(upstreams=asked or question.upstreams)
        return self._rate(budget, question, self._time(ago), dearest=False)

    def _rate(self, budget: Budget, question: Question, at: dt.datetime, *, dearest: bool) -> _Rate:
        """What a token takes at the dearest of its upstreams.

        :param dearest: whether that is in the dearest hours, whatever the time.
        """
        if budget.unit == TOKENS:
            return _Rate()
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
        per_token = _NANO / _MILLION
        return _Rate(
            max(each.input for each in found) * per_token,
            max(each.output for each in found) * per_token,
        )

    def _draw(self, share: _Share, grant: Grant) -> Draw:
        rate = share.rate
        draw = self._take(
            share,
            max(1, rate.of(grant.prompt, grant.choices)),
            max(1, rate.of(grant.prompt, grant.completion)),
        )
        if draw.amount:
            share.draws.append(draw)
        return draw

    def _take(self, share: _Share, least: int, wanted: int) -> Draw:
        draw = share.draw(self._accounts, least, wanted)
        if draw is None:
            draw = self._begin(share, least, wanted)
        return draw

    def _begin(self, share: _Share, least: int, wanted: int) -> Draw:
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

    def _spent_before(self, share: _Share) -> int:
        if self._spent is None:
            return 0
        tokens, money = self._spent(share.owner, share.period.since)
        return min(
            _MOST, tokens if share.budget.unit == TOKENS else money.get(share.budget.unit, 0)
        )

    def _refusal(self, share: _Share, draw: Draw, grant: Grant) -> BudgetSpent:
        budget, needed = share.budget, share.rate.of(grant.prompt, grant.choices)
        if needed > budget.most:
            return BudgetSpent(f"This question is too large for the budget of {budget}.")
        until = share.period.until
        state = "is spent"
        if draw.left:
            state = f"has {budget.told(draw.left)} left, which is too little for this question"
        return BudgetSpent(
            f"The budget of {budget} {state}; it is free again at {_shown_time(until)}.",
            retry_after=max(1, math.ceil(until.timestamp() - self._now())),
        )


def spent_unknown() -> PeersUnavailable:
    """The refusal if an account can't begin."""
    return PeersUnavailable("What was spent before cannot be read; try again.", retry_after=1)


def _tightest(budgets: Iterable[Budget]) -> list[Budget]:
    """The smallest budget of each unit and period, which share an account."""
    found: dict[tuple[str, str], Budget] = {}
    for each in budgets:
        known = found.setdefault((each.unit, each.per), each)
        if each.most < known.most:
            found[each.unit, each.per] = each
    return list(found.values())


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


def _shown_time(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class _Share:
    """One budget of an owner's, and what one question has drawn from it."""

    def __init__(self, budget: Budget, owner: str, period: _Period, rate: _Rate) -> None:
        self.budget = budget
        self.owner = owner
        self.period = period
        self.rate = rate
        self.draws: list[Draw] = []

    @property
    def account(self) -> AccountKey:
        # Without the amount, so that a budget that is raised goes on from what was spent.
        return (
            "budget",
            self.budget.unit,
            self.budget.per,
            str(self.period.since.date()),
            self.owner,
        )

    def draw(
        self, accounts: Accounts, least: int, wanted: int, initial: int | None = None
    ) -> Draw | None:
        return accounts.draw(
            self.account,
            least=least,
            wanted=wanted,
            most=self.budget.most,
            until=self.period.until.timestamp() + _KEPT_SECONDS,
            initial=initial,
        )

    def settle(self, accounts: Accounts, used: int) -> None:
        draws, self.draws = self.draws, []
        for draw in draws:
            accounts.settle(self.account, draw, used)
            used = 0


class Grant:
    """What one question has been granted; a ``Reservation``.

    :ivar completion: the most tokens of its answer, of all choices together.
    :ivar wanted: what was asked for.

    :param rate_asked: what a token takes of a budget, by when and where it was asked.
    :param announce: notes that a settlement is about to be made; returns what ends that.
    """

    def __init__(
        self,
        accounts: Accounts,
        shares: list[_Share],
        *,
        prompt: int,
        wanted: int,
        choices: int,
        rate_asked: Callable[[Budget, float | None, str], _Rate],
        announce: Callable[[], Callable[[], None]],
    ) -> None:
        self._accounts = accounts
        self._shares = shares
        self._rate_asked = rate_asked
        self._announce = announce
        self._tell_settled: Callable[[], None] = lambda: None
        self.prompt = prompt
        self.wanted = self.completion = wanted
        self.choices = choices
        self._lock = threading.Lock()
        #: How many requests were sent before the latest one.
        self._earlier = 0
        #: Whether the latest one was refused.
        self._refused = False
        self._settled = False

    @property
    def is_cut(self) -> bool:
        """Whether the answer may be shorter than was asked for, because too little was left."""
        return self.completion < self.wanted

    @property
    def most_events(self) -> int:
        """More events than that show that the upstream does not keep to what was granted."""
        return _SLACK_FACTOR * self.completion + _SLACK

    def refuse(self) -> None:
        """See ``Reservation``."""
        self._refused = True

    def may_send_again(self) -> bool:
        """See ``Reservation``."""
        if self._refused:
            self._refused = False
            return True
        for share in self._shares:
            prompt = max(1, share.rate.of(self.prompt, 0))
            with suppress(PeersUnavailable):
                draw = share.draw(self._accounts, prompt, prompt, 0)
                if draw is not None and draw.amount:
                    share.draws.append(draw)
                    continue
            return False  # what the others have drawn is settled in the end
        self._earlier += 1
        return True

    def give_back(self) -> None:
        """Settle without a charge."""
        self._settle(lambda _: 0)

    def end(self) -> None:
        """See ``Reservation``."""
        self._tell_settled = self._announce()

    def settle(self, session: StreamSession) -> None:
        """See ``Reservation``."""
        try:
            prompt, completion = self._taken_by(session)
            usage = session.account.usage
            is_whole = self._is_told(session) and usage.prompt_tokens and not self._earlier
            cost = session.account.cost if is_whole else None

            def charge(share: _Share) -> int:
                if cost is not None and cost.currency == share.budget.unit:
                    return int((cost.amount * _NANO).to_integral_value(ROUND_CEILING))
                upstream = "" if self._earlier else session.upstream
                rate = self._rate_asked(share.budget, session.asked_at, upstream)
                return rate.of(prompt, completion)

            self._settle(charge)
        except Exception:
            logger.exception("A budget could not be settled")
        finally:
            self._tell_settled()

    def _settle(self, charge: Callable[[_Share], int]) -> None:
        with self._lock:
            was_settled, self._settled = self._settled, True
        for share in () if was_settled else self._shares:
            share.settle(self._accounts, min(_MOST, charge(share)))

    def _is_told(self, session: StreamSession) -> bool:
        """Whether the provider has told what all of the answer has taken."""
        usage = session.account.usage
        has_all = session.whole or session.outcome is Outcome.FINISHED
        return usage.source is UsageSource.PROVIDER and has_all and usage.completion_tokens > 0

    def _taken_by(self, session: StreamSession) -> tuple[int, int]:
        """The tokens of the prompts and of the answer."""
        prompt, completion = self._of_latest(session)
        return prompt + self._earlier * (prompt or self.prompt), completion

    def _of_latest(self, session: StreamSession) -> tuple[int, int]:
        usage = session.account.usage
        if session.phase is Phase.CONNECTING or self._refused:
            return 0, 0
        prompt = usage.prompt_tokens
        if usage.source is UsageSource.ESTIMATED or not prompt:
            prompt = self.prompt
        if self._is_told(session):
            return prompt, usage.completion_tokens
        if session.billing_stops is BillingStops.NO and session.outcome is Outcome.STOPPED:
            return prompt, self.completion
        came = session.events if session.events > self.most_events else 0
        if usage.source is UsageSource.NONE:
            return prompt, max(came, min(self.completion, session.bytes))
        counted = max(_upper(usage, usage.completion_tokens), session.events)
        return prompt, max(came, min(self.completion, counted))


def _upper(usage: Usage, tokens: int) -> int:
    """The upper end of an estimate; what is no estimate stays as it is."""
    return math.ceil(tokens * (1 + (usage.spread or 0)))
