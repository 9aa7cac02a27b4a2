"""The proof that a Stop stops the bill: answers that are stopped, and a balance that says so.

1. It asks for the balance, and says what the questions cost if a Stop stops the bill, and if not.
2. It asks all questions at once, each for a long answer, and stops each after ``_EVENTS`` events.
3. It waits until even the last answer would have ended, at the speed at which they came: if they
   had gone on, they would be billed by then.
4. It asks for the balance again, until that rests.

If the balance fell by what had come, and not by what was asked for, a Stop stops the bill. It must
be told finely enough for that: DeepSeek tells it in cents.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from ..answers.session import SessionKey, StreamSession
from ..config import Settings
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..accounting.prices import Rates
    from ..answers.usage import Cost

#: How many events of an answer are read.
_EVENTS = 50
#: Seconds that are waited beyond the time at which the last answer would have ended.
_MARGIN = 10.0
#: Seconds between two looks at a balance, until it rests.
_LOOK_SECONDS = 5.0
_MOST_LOOKS = 20
_LONGEST_WAIT = 1800.0

_PROMPT = (
    "Write the numbers from 1 to 20000 in words, one on each line, with no other text. Do not stop."
)


AskBalance = Callable[[], "list[Cost]"]


@dataclass(frozen=True)
class _Stopped:
    """An answer that was stopped: how many events came in how many seconds, and its session."""

    seconds: float
    session: StreamSession

    @property
    def came(self) -> int:
        return self.session.account.usage.completion_tokens or self.session.events


def prove(
    settings: Settings,
    ask_balance: AskBalance,
    model: str,
    count: int,
    max_tokens: int,
    *,
    asks: bool,
) -> None:
    """Show it, and say what was seen.

    :param ask_balance: asks for the balance, in each of its currencies.
    :param asks: whether to ask before any money is spent.
    :raises ChatProxyError: if an answer or a balance can't be had.
    :raises click.ClickException: if the balance shows that the bill goes on.
    """
    from ..accounting.prices import Prices

    now = datetime.now(timezone.utc)
    found = Prices(settings.prices).rates("DeepSeek", [model], now)
    if found is None:
        raise ConfigError(f"The price of {model!r} is not known; CHATPROXY_PRICES can tell it.")
    rates, currency = found
    before = _balance(ask_balance, currency)
    whole = count * _output(rates, max_tokens)
    at_once = count * _output(rates, _EVENTS)
    click.echo(
        f"{settings.base_url}, {model}: {count} questions at once, each for {max_tokens} tokens, "
        f"each stopped after {_EVENTS}.\n"
        f"They cost about {at_once:f} {currency} if a Stop stops the bill, "
        f"and about {whole:f} {currency} if not.\n"
        f"The balance is {before:f} {currency}."
    )
    if asks:
        click.confirm("Spend that?", abort=True)
    stopped = _ask_and_stop(model, count, max_tokens)
    _wait_for_the_end(stopped, max_tokens)
    fall = before - _resting_balance(ask_balance, currency)
    came = sum((rates.amount(each.session.account.usage) for each in stopped), Decimal(0))
    click.echo(
        f"The balance fell by {fall:f} {currency}. What came costs about {came:f}; "
        f"whole answers would have cost {whole:f}."
    )
    _judge(fall, came, whole, step=Decimal(1).scaleb(int(before.as_tuple().exponent)))


def _output(rates: Rates, tokens: int) -> Decimal:
    return rates.output * tokens / 1_000_000


def _balance(ask_balance: AskBalance, currency: str) -> Decimal:
    amounts = [each.amount for each in ask_balance() if each.currency == currency]
    if not amounts:
        raise click.ClickException(f"The key has no balance in {currency}.")
    return amounts[0]


def _ask_and_stop(model: str, count: int, max_tokens: int) -> list[_Stopped]:
    from ..app import create_app
    from ..runs.answer import Answer

    settings_of_its_own = {
        "CHATPROXY_RECORDS": "",
        "CHATPROXY_UPSTREAMS": "",
        "CHATPROXY_PEERS": "local",
    }
    app = create_app(settings_of_its_own)
    state: Any = app.extensions["chatproxy"]
    payload = {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": max_tokens,
        "thinking": {"type": "disabled"},
    }

    def ask_and_stop(_number: int) -> _Stopped:
        with app.app_context():
            question = state.prepare(payload)
        reader = state.service.begin(SessionKey("", ""), question, 0.0)
        with closing(Answer(reader, state.service.cancel_session, state.service.drop)) as answer:
            for _ in answer:
                if answer.events >= _EVENTS:
                    break
            answer.cancel()
        session: StreamSession = reader.session
        session.closed.wait()
        first = session.first_event_at or session.started_at
        return _Stopped(max(0.001, session.last_event_at - first), session)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask_and_stop, range(count)))


def _wait_for_the_end(stopped: list[_Stopped], max_tokens: int) -> None:
    slowest = max(each.seconds / max(1, each.came) for each in stopped)
    seconds = min(_LONGEST_WAIT, slowest * max_tokens + _MARGIN)
    click.echo(
        f"{sum(each.came for each in stopped)} tokens came, and all {len(stopped)} connections are "
        f"closed. Waiting {seconds:.0f} s, in which the answers would have ended ..."
    )
    time.sleep(seconds)


def _resting_balance(ask_balance: AskBalance, currency: str) -> Decimal:
    balance = _balance(ask_balance, currency)
    for _ in range(_MOST_LOOKS):
        time.sleep(_LOOK_SECONDS)
        latest, balance = balance, _balance(ask_balance, currency)
        if latest == balance:
            return balance
    raise click.ClickException("The balance falls all the time: something else uses the key.")


def _judge(fall: Decimal, came: Decimal, whole: Decimal, step: Decimal) -> None:
    if whole - came < 2 * step:
        raise click.ClickException(
            f"The balance is told in steps of {step:f}, too large to tell the one from the other: "
            "ask for more, with --answers or --max-tokens."
        )
    if fall - came > (whole - came) / 2:
        raise click.ClickException("A Stop does not stop the bill there.")
    click.echo("A Stop stops the bill.")
