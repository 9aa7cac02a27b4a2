"""Grant: what one question may take of its owner's budgets, and what it is charged in the end.

``budgets`` has the rules.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from ..answers.reservation import AccountKey, Accounts, Draw
from ..answers.session import Outcome, Phase, StreamSession
from ..answers.upstream import BillingStops
from ..answers.usage import Usage, UsageSource
from ..errors import PeersUnavailable
from .budget import MOST, NANO, Budget, Period

logger = logging.getLogger("chatproxy")

#: Seconds for which an account is kept after its period: answers end that began in it.
_KEPT_SECONDS = 2 * 86_400
#: An upstream that sends so many events beyond what was granted does not keep to it. One event has
#: a token or more, but some services cut tokens into several.
_SLACK_FACTOR, _SLACK = 2, 64


class Rate(NamedTuple):
    """What a token takes of a budget, in its smallest parts."""

    prompt: Decimal = Decimal(1)
    completion: Decimal = Decimal(1)

    def of(self, prompt: int, completion: int) -> int:
        """What so many take."""
        whole = self.prompt * prompt + self.completion * completion
        return int(whole.to_integral_value(ROUND_CEILING))

    def completion_for(self, amount: int, prompt: int, most: int) -> int:
        """How many tokens of an answer an amount is for, beside its prompt; ``most`` at most."""
        if not self.completion:
            return most
        rest = (amount - self.prompt * prompt) / self.completion
        return min(most, int(rest.to_integral_value(ROUND_FLOOR)))


class Share:
    """One budget of an owner's, and what one question has drawn from it."""

    def __init__(self, budget: Budget, owner: str, period: Period, rate: Rate) -> None:
        self.budget = budget
        self.owner = owner
        self.period = period
        self.rate = rate
        self.draws: list[Draw] = []

    @property
    def account(self) -> AccountKey:
        """What its account is found by."""
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
        """Draw from its account; see ``Accounts``."""
        return accounts.draw(
            self.account,
            least=least,
            wanted=wanted,
            most=self.budget.most,
            until=self.period.until.timestamp() + _KEPT_SECONDS,
            initial=initial,
        )

    def settle(self, accounts: Accounts, used: int) -> None:
        """Have ``used`` count in place of all that was drawn."""
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
        shares: list[Share],
        *,
        prompt: int,
        wanted: int,
        choices: int,
        rate_asked: Callable[[Budget, float | None, str], Rate],
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

            def charge(share: Share) -> int:
                if cost is not None and cost.currency == share.budget.unit:
                    return int((cost.amount * NANO).to_integral_value(ROUND_CEILING))
                upstream = "" if self._earlier else session.upstream
                rate = self._rate_asked(share.budget, session.asked_at, upstream)
                return rate.of(prompt, completion)

            self._settle(charge)
        except Exception:
            logger.exception("A budget could not be settled")
        finally:
            self._tell_settled()

    def _settle(self, charge: Callable[[Share], int]) -> None:
        with self._lock:
            was_settled, self._settled = self._settled, True
        for share in () if was_settled else self._shares:
            share.settle(self._accounts, min(MOST, charge(share)))

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
