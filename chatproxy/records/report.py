"""Reports: what the answers in the records came to, by day, owner, model or application.

A stopped answer counts like any other: with the tokens that came until then, as the provider or an
estimate has them. What a Stop has saved is what it saved at most, and stands apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select

from ..answers.session import Outcome
from ..answers.usage import Cost, UsageSource
from .database import Database
from .schema import NANO, answers, sum_of

#: The sums, by their names in the JSON of a report, beside the costs.
_SUMS: dict[str, ColumnElement[Any]] = {
    "answers": func.count(),
    "stopped": func.sum(case((answers.c.outcome == Outcome.STOPPED.value, 1), else_=0)),
    "failed": func.sum(case((answers.c.outcome == Outcome.FAILED.value, 1), else_=0)),
    "counted": func.sum(case((answers.c.usage_source == UsageSource.COUNTED.value, 1), else_=0)),
    "estimated": func.sum(
        case((answers.c.usage_source == UsageSource.ESTIMATED.value, 1), else_=0)
    ),
    "prompt_tokens": sum_of(answers.c.prompt_tokens),
    "completion_tokens": sum_of(answers.c.completion_tokens),
    "cached_tokens": sum_of(answers.c.cached_tokens),
    "reasoning_tokens": sum_of(answers.c.reasoning_tokens),
    "savedAtMost": sum_of(answers.c.saved_at_most),
}


@dataclass(frozen=True)
class Line:
    """A line of a report.

    :ivar of: what it is of: a value for each division, in their order.
    :ivar sums: ``answers``; those of them that were ``stopped`` and ``failed``, and whose tokens
        were ``counted`` and ``estimated``; the tokens in DeepSeek's names; ``savedAtMost``.
    :ivar costs: the nano-units of each currency.
    """

    of: tuple[str, ...]
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0))
    costs: dict[str, int] = field(default_factory=dict)

    def cost_list(self) -> list[Cost]:
        """The costs as amounts of money, in the order of their currencies."""
        return [Cost(Decimal(nano) / NANO, name) for name, nano in sorted(self.costs.items())]

    def as_json(self, by: Sequence[str]) -> dict[str, Any]:
        """The line with all its names."""
        costs = [each.as_json() for each in self.cost_list()]
        return {**dict(zip(by, self.of, strict=True)), **self.sums, "cost": costs}


def report(
    database: Database,
    by: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    application: str | None = None,
) -> list[Line]:
    """The lines of a report, in the order of what they are of.

    :param by: some of day, owner, model, application; a day is one of UTC.
    :param since: leaves out answers that ended before; ``until`` those that ended then or later.
    :param application: leaves out those of others.
    :raises DatabaseError: if the database can't be used.
    """
    divisions = [_division(name, database.dialect) for name in by]
    query = select(*divisions, answers.c.currency, sum_of(answers.c.cost_nano), *_SUMS.values())
    if since is not None:
        query = query.where(answers.c.ended_at >= since)
    if until is not None:
        query = query.where(answers.c.ended_at < until)
    if application is not None:
        query = query.where(answers.c.application == application)
    with database.reading() as connection:
        return _lines(connection, query.group_by(*divisions, answers.c.currency), len(by))


def _division(name: str, dialect: str) -> ColumnElement[Any]:
    if name != "day":
        column: ColumnElement[Any] = answers.c[name]
        return column
    at = answers.c.ended_at
    return func.date(func.timezone("UTC", at) if dialect == "postgresql" else at)


def _lines(connection: Connection, query: Any, width: int) -> list[Line]:
    """One for each combination of values; the query has one for each currency of it, too."""
    lines: dict[tuple[str, ...], Line] = {}
    for row in connection.execute(query):
        of = tuple(map(str, row[:width]))
        line = lines.setdefault(of, Line(of))
        currency, nano, *sums = row[width:]
        for name, number in zip(_SUMS, sums, strict=True):
            line.sums[name] += int(number)
        if currency is not None:
            line.costs[currency] = nano
    return [lines[of] for of in sorted(lines)]


def total(lines: Sequence[Line], width: int) -> Line:
    """The sum of some lines; it is of nothing in particular.

    :param width: how many divisions they have.
    """
    summed = Line(("total", *[""] * (width - 1))[:width])
    for line in lines:
        for name, number in line.sums.items():
            summed.sums[name] += number
        for currency, nano in line.costs.items():
            summed.costs[currency] = summed.costs.get(currency, 0) + nano
    return summed
