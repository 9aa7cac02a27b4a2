"""The command ``chatproxy reconcile``: whether what is billed is what the records say.

It asks DeepSeek for the key's balance, and compares how that fell with the records of the same
time. ``--prove`` needs no records: it asks questions of its own, stops them, and shows that the
balance falls no further (``prove``).
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

import click

from ..config import Settings
from ..errors import ChatProxyError
from .report import RECORDS, as_url, database_at

if TYPE_CHECKING:
    from ..answers.usage import Cost
    from ..records.balances import Comparison


@click.command()
@RECORDS
@click.option("--start", is_flag=True, help="Remember the balance, and begin a new span of time.")
@click.option("--json", "is_json", is_flag=True, help="The comparison in JSON.")
@click.option(
    "--prove",
    "proves",
    is_flag=True,
    help="Ask questions, stop them, and see whether the balance falls further. Costs money.",
)
@click.option("--model", default="", help="With --prove: which model; CHATPROXY_MODEL if left out.")
@click.option(
    "--answers",
    default=5,
    show_default=True,
    type=click.IntRange(1, 20),
    help="With --prove: how many questions, all at once.",
)
@click.option(
    "--max-tokens",
    default=8000,
    show_default=True,
    type=click.IntRange(100),
    help="With --prove: how long each answer would be, in tokens.",
)
@click.option("--yes", is_flag=True, help="With --prove: do not ask whether to spend the money.")
def reconcile(
    *,
    records: str,
    start: bool,
    is_json: bool,
    proves: bool,
    model: str,
    answers: int,
    max_tokens: int,
    yes: bool,
) -> None:
    """Compare how the balance at DeepSeek fell with what the records say.

    \b
    chatproxy reconcile --start    remembers the balance
    chatproxy reconcile            compares, as often as you like
    chatproxy reconcile --prove    shows that a Stop stops the bill; needs no records

    The key is DEEPSEEK_API_KEY. The sums are comparable if nothing runs at either time, and if
    nothing else uses the key. DeepSeek tells a balance in cents.
    """
    try:
        settings = Settings.load({}, os.environ)
        settings.require_key()
        if proves:
            from .prove import prove

            balance = partial(balance_now, settings)
            prove(settings, balance, model or settings.model, answers, max_tokens, asks=not yes)
            return
        with database_at(as_url(records)) as database:
            from ..records.balances import account_of
            from ..records.balances import reconcile as compare

            account = account_of(settings.base_url, settings.api_key)
            now, found = datetime.now(timezone.utc), balance_now(settings)
            comparisons = compare(database, account, now, found, starts=start)
    except ChatProxyError as error:
        raise click.ClickException(str(error)) from None
    if is_json:
        click.echo(json.dumps([each.as_json() for each in comparisons], indent=2))
    elif not comparisons:
        _say_that_it_begins(found, now)
    for each in [] if is_json else comparisons:
        _say(each)


def balance_now(settings: Settings) -> list[Cost]:
    """The balance of the configured key.

    :raises UpstreamError: if that can't be learned.
    """
    from ..server.resolver import ThreadedResolver
    from ..upstreams.balance import balance_of
    from ..upstreams.chat_completions import ChatCompletions

    upstreams = ChatCompletions(settings, ThreadedResolver())
    try:
        return balance_of(upstreams)
    finally:
        upstreams.close()


def _say_that_it_begins(found: list[Cost], now: datetime) -> None:
    for balance in found:
        click.echo(f"The balance is {balance.amount:f} {balance.currency} at {_utc(now)}.")
    click.echo("A span begins. `chatproxy reconcile` compares what follows with the records.")


def _say(it: Comparison) -> None:
    click.echo(f"From {_utc(it.since)} to {_utc(it.until)}, in {it.currency}:")
    rows = (
        ("the balance fell by", it.fall, f"from {it.before:f} to {it.after:f}"),
        ("the records say", it.recorded, _answers_of(it)),
        ("billed beyond them", it.difference, ""),
    )
    for name, amount, more in rows:
        click.echo(f"  {name:<20} {amount:>18.9f}  {more}".rstrip())


def _answers_of(it: Comparison) -> str:
    parts = [f"{it.answers} answers, {it.stopped} of them stopped"]
    how_known = ((it.counted, "counted"), (it.estimated, "estimated"))
    parts += [f"the tokens of {number} {how}" for number, how in how_known if number]
    if it.unpriced:
        parts.append(f"{it.unpriced} without a cost in {it.currency}")
    return "; ".join(parts)


def _utc(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
