"""Budget: what an owner may spend in a day or a month, in tokens or in money.

All amounts are whole numbers: tokens, or nano-units of a currency. Periods are days and months of
UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

#: The unit of a budget that is not one of money.
TOKENS = "tokens"
NANO = Decimal(10**9)
#: The largest budget, in its unit's smallest parts; a Redis counts exactly up to 2**53.
MOST = 9 * 10**15


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
        if most is None or not 0 < most <= MOST:
            raise ValueError(
                "A Budget is a whole number of tokens, or an amount such as '5' or '0.50', greater "
                f"than 0 and at most {MOST} tokens or {MOST // 10**9} of a currency."
            )
        object.__setattr__(self, "most", most)

    @property
    def unit(self) -> str:
        """``"tokens"``, or the currency."""
        return self.currency or TOKENS

    def shown(self, parts: int) -> int | Decimal:
        """So many of the smallest parts, in ``unit``."""
        return parts if self.unit == TOKENS else (Decimal(parts) / NANO).normalize()

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
        parts = Decimal(amount) * NANO
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
            "freeAt": shown_time(self.until),
        }


class Period(NamedTuple):
    """A day or a month; times are UTC."""

    since: dt.datetime
    until: dt.datetime

    @classmethod
    def of(cls, per: str, now: dt.datetime) -> Period:
        """The present one."""
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if per == "day":
            return cls(day, day + dt.timedelta(days=1))
        first = day.replace(day=1)
        return cls(first, (first + dt.timedelta(days=32)).replace(day=1))


def tightest(budgets: Iterable[Budget]) -> list[Budget]:
    """The smallest budget of each unit and period, which share an account."""
    found: dict[tuple[str, str], Budget] = {}
    for each in budgets:
        known = found.setdefault((each.unit, each.per), each)
        if each.most < known.most:
            found[each.unit, each.per] = each
    return list(found.values())


def shown_time(time: dt.datetime) -> str:
    """A time in UTC as clients get it (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
