"""The command ``chatproxy report``: what the answers in the records came to."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from ..errors import ChatProxyError
from ..masking import printable
from ..values import as_records

if TYPE_CHECKING:
    from ..records.database import Database
    from ..records.report import Line
#: As in ``records.report``, which is not imported before it is needed.
_DIVISIONS = ("day", "owner", "model", "application")


def as_url(url: str) -> str:
    """The URL of the records' database, as it is used.

    :raises click.UsageError: if there is none, or it can't be one.
    """
    if not url:
        raise click.UsageError("Name the database of the records: CHATPROXY_RECORDS, or --records.")
    try:
        return as_records(url)
    except ValueError as error:
        raise click.UsageError(f"CHATPROXY_RECORDS {error}.") from None


#: The option of every command that reads the records.
RECORDS = click.option(
    "--records",
    envvar="CHATPROXY_RECORDS",
    default="",
    metavar="URL",
    help="The database. Left out, CHATPROXY_RECORDS, whose password no other user can see.",
)


@contextmanager
def database_at(url: str) -> Iterator[Database]:
    """The database of the records, which are of this version; a failure is one sentence."""
    for package in ("sqlalchemy", "alembic"):
        if find_spec(package) is None:
            raise click.ClickException(f"this needs {package}: pip install 'chatproxy[records]'")
    from ..records.database import Database

    try:
        database = Database(url)
        try:
            database.prepare()
            yield database
        finally:
            database.close()
    except ChatProxyError as error:
        raise click.ClickException(str(error)) from None


def _as_divisions(_context: object, _option: object, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not set(names) <= set(_DIVISIONS) or len(set(names)) < len(names):
        raise click.BadParameter(f"some of {', '.join(_DIVISIONS)}, each once")
    return names


def _as_time(_context: object, _option: object, text: str | None) -> datetime | None:
    try:
        found = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            "a day or a time, such as 2026-11-26 or 2026-11-26T08:00"
        ) from None
    return found if found is None or found.tzinfo else found.replace(tzinfo=timezone.utc)


@click.command()
@RECORDS
@click.option(
    "--by",
    default="day,owner,model",
    show_default=True,
    callback=_as_divisions,
    help="What has a line of its own: some of day, owner, model, application.",
)
@click.option(
    "--since", callback=_as_time, metavar="TIME", help="Only answers that ended then or later."
)
@click.option("--until", callback=_as_time, metavar="TIME", help="Only answers that ended before.")
@click.option("--application", help="Only the answers of this application.")
@click.option("--json", "form", flag_value="json", help="A list of objects, in JSON.")
@click.option("--csv", "form", flag_value="csv", help="A table for other programs, in CSV.")
def report(
    *,
    records: str,
    by: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    application: str | None,
    form: str | None,
) -> None:
    """Tell what answers came to: how many, their tokens, what Stops saved at most, the cost.

    Times and days are in UTC.
    """
    with database_at(as_url(records)) as database:
        from ..records.report import report as report_of

        lines = report_of(database, by, since, until, application)
    _FORMS[form or "table"](by, lines)


def _write_json(by: Sequence[str], lines: list[Line]) -> None:
    click.echo(json.dumps([line.as_json(by) for line in lines], indent=2))


def _write_csv(by: Sequence[str], lines: list[Line]) -> None:
    """With a column for each currency."""
    from ..records.report import total

    sums = total(lines, len(by))
    currencies = sorted(sums.costs)
    writer = csv.writer(sys.stdout)
    writer.writerow([*by, *sums.sums, *(f"cost {currency}" for currency in currencies)])
    for line in lines:
        costs = {cost.currency: f"{cost.amount:f}" for cost in line.cost_list()}
        writer.writerow(
            [*map(_harmless, line.of), *line.sums.values(), *map(costs.get, currencies)]
        )


def _harmless(cell: str) -> str:
    """A text that no spreadsheet takes for a formula: it may be a client's."""
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@")) else cell


def _write_table(by: Sequence[str], lines: list[Line]) -> None:
    heads = [name.upper() for name in by]
    heads += ["ANSWERS", "STOPPED", "FAILED", "TOKENS IN", "OUT", "SAVED AT MOST", "COST"]
    rows = [heads, *map(_row, lines)]
    if len(lines) > 1:
        from ..records.report import total

        rows.append(_row(total(lines, len(by))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if number < len(by) else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def _row(line: Line) -> list[str]:
    sums = line.sums
    names = ("answers", "stopped", "failed", "prompt_tokens", "completion_tokens", "savedAtMost")
    costs = ", ".join(f"{cost.amount:,.6f} {cost.currency}" for cost in line.cost_list())
    of = [printable(cell) or "-" for cell in line.of]
    return [*of, *(f"{sums[name]:,}" for name in names), costs or "-"]


_FORMS: dict[str, Callable[[Sequence[str], list[Any]], None]] = {
    "json": _write_json,
    "csv": _write_csv,
    "table": _write_table,
}
