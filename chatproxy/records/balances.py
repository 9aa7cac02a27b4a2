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

from sqlalchemy import Connection, and_, case, func, select

from ..answers.session import Outcome
from ..answers.upstream import CONFIGURED
from ..answers.usage import Cost, UsageSource
from .database import Database
from .schema import NANO, answers, balances, nano_of, sum_of


@dataclass(frozen=True)
class Comparison:
    """A balance and the records, over one span of time, in one currency. Amounts are exact.

    :ivar before: the balance at ``since``; ``after`` that at ``until``.
    :ivar recorded: what the answers cost that ended in between.
    :ivar answers: how many those are; of them ``stopped`` were stopped, ``counted`` and
        ``estimated`` tell whose tokens were, and ``unpriced`` have no cost in this currency, or a
        part of them has none; what nothing came of is none of these.
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
    in_span = and_(answers.c.ended_at >= since, answers.c.ended_at < until)
    is_priced = answers.c.currency == after.currency
    has_usage = answers.c.usage_source != UsageSource.NONE.value

    def number(condition: Any) -> Any:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    nano, *counts = connection.execute(
        select(
            sum_of(case((is_priced, answers.c.cost_nano), else_=0)),
            func.count(),
            number(answers.c.outcome == Outcome.STOPPED.value),
            number(answers.c.usage_source == UsageSource.COUNTED.value),
            number(answers.c.usage_source == UsageSource.ESTIMATED.value),
            number(and_(answers.c.currency.is_distinct_from(after.currency), has_usage)),
        ).where(answers.c.upstream == CONFIGURED, in_span)
    ).one()
    runs = connection.execute(
        select(answers.c.outcome, answers.c.usage_source, answers.c.receipt["billed"]).where(
            answers.c.upstream == "", in_span
        )
    )
    for outcome, source, billed in runs:
        if not billed:
            continue
        of_each = billed["nano"]
        nano += of_each.get(after.currency, 0)
        of_it = (
            True,
            outcome == Outcome.STOPPED.value,
            source == UsageSource.COUNTED.value,
            source == UsageSource.ESTIMATED.value,
            bool(billed["unpriced"] or of_each.keys() - {after.currency}),
        )
        counts = [count + is_so for count, is_so in zip(counts, of_it, strict=True)]
    return Comparison(
        after.currency,
        since,
        until,
        before,
        after.amount,
        Decimal(nano) / NANO,
        *map(int, counts),
    )
