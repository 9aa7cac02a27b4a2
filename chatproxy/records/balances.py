"""Balances: what a key had left at some times, and whether the records agree with how it fell.

DeepSeek tells a key's balance. Between two times it falls by what DeepSeek has billed. The answers
that ended between them are in the records, each with the cost that this package has worked out. If
both agree, what the records say is what is paid; and if many of the answers were stopped, a Stop
stops the bill.

An answer counts by the time of its end. So the sums are comparable if nothing runs at either time,
and if nothing else uses the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select

from ..answers.session import Outcome
from ..answers.upstream import CONFIGURED
from ..answers.usage import Cost, UsageSource
from .database import Database
from .schema import NANO, answers, balances, nano_of


@dataclass(frozen=True)
class Comparison:
    """A balance and the records, over one span of time, in one currency. Amounts are exact.

    :ivar before: the balance at ``since``; ``after`` that at ``until``.
    :ivar recorded: what the answers cost that ended in between.
    :ivar answers: how many those are; of them ``stopped`` were stopped, ``counted`` and
        ``estimated`` tell whose tokens were, and ``unpriced`` have no cost in this currency.
    """

    currency: str
    since: datetime
    until: datetime
    before: Decimal
    after: Decimal
    recorded: Decimal
    answers: int
    stopped: int
    counted: int
    estimated: int
    unpriced: int

    @property
    def fall(self) -> Decimal:
        """By how much the balance fell; negative if it was topped up."""
        return self.before - self.after

    @property
    def difference(self) -> Decimal:
        """How much more was billed than the records say; negative if it was less."""
        return self.fall - self.recorded

    def as_json(self) -> dict[str, Any]:
        """All of it; amounts are texts, as they are exact."""
        amounts = {
            name: f"{getattr(self, name):.9f}"
            for name in ("before", "after", "fall", "recorded", "difference")
        }
        counts = {
            name: getattr(self, name)
            for name in ("answers", "stopped", "counted", "estimated", "unpriced")
        }
        times = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return {"currency": self.currency, **times, **amounts, **counts}


def account_of(base_url: str, key: str) -> str:
    """What stands for an account in the records: a digest, from which no key can be had."""
    return hashlib.sha256(f"{base_url}\0{key}".encode()).hexdigest()


def reconcile(
    database: Database,
    account: str,
    now: datetime,
    found: Iterable[Cost],
    *,
    starts: bool = False,
) -> list[Comparison]:
    """Remember a balance, and compare it with the one at which the span began.

    :param found: the balance at ``now``, in each currency.
    :param starts: begin a new span with it, and compare nothing. The first one begins one, too.
    :returns: a comparison for each currency whose span has begun before.
    :raises DatabaseError: if the database can't be used.
    """
    comparisons = []
    with database.writing() as connection:
        for balance in found:
            row = None if starts else _start_of(connection, account, balance.currency)
            connection.execute(
                balances.insert().values(
                    at=now,
                    account=account,
                    currency=balance.currency,
                    balance_nano=nano_of(balance.amount),
                    is_start=row is None,
                )
            )
            if row is not None:
                before = Decimal(row.balance_nano) / NANO
                comparisons.append(_compare(connection, row.at, now, before, balance))
    return comparisons


def _start_of(connection: Connection, account: str, currency: str) -> Any:
    """Where the present span began; None if none has."""
    query = (
        select(balances.c.at, balances.c.balance_nano)
        .where(balances.c.account == account, balances.c.currency == currency)
        .where(balances.c.is_start)
        .order_by(balances.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def _compare(
    connection: Connection, since: datetime, until: datetime, before: Decimal, after: Cost
) -> Comparison:
    is_a_run = and_(answers.c.upstream == "", answers.c.cost_nano.is_not(None))
    in_span = and_(answers.c.ended_at >= since, answers.c.ended_at < until)
    is_priced = answers.c.currency == after.currency

    def number(condition: Any) -> Any:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    cost, *counts = connection.execute(
        select(
            func.sum(case((and_(is_priced, ~is_a_run), answers.c.cost_nano), else_=0)),
            func.count(),
            number(answers.c.outcome == Outcome.STOPPED.value),
            number(answers.c.usage_source == UsageSource.COUNTED.value),
            number(answers.c.usage_source == UsageSource.ESTIMATED.value),
            number(answers.c.currency.is_distinct_from(after.currency)),
        ).where(or_(answers.c.upstream == CONFIGURED, is_a_run), in_span)
    ).one()
    runs = connection.execute(
        select(answers.c.cost_nano, answers.c.receipt).where(is_a_run, is_priced, in_span)
    )
    nano = int(cost or 0) + sum(_share_of(*run, after.currency) for run in runs)
    return Comparison(
        after.currency,
        since,
        until,
        before,
        after.amount,
        Decimal(nano) / NANO,
        *map(int, counts),
    )


def _share_of(cost_nano: int, receipt: dict[str, Any] | None, currency: str) -> int:
    """What a run cost at DeepSeek: all of it, unless its receipt lists calls of others, too."""
    calls = [each for each in (receipt or {}).get("calls") or () if each["upstream"]]
    ours = [each for each in calls if each["upstream"] == CONFIGURED]
    if ours == calls:
        return cost_nano
    costs = [each.get("cost") for each in ours]
    amounts = [each["amount"] for each in costs if each and each["currency"] == currency]
    return sum(nano_of(Decimal(repr(amount))) for amount in amounts)
