"""The proof that a Stop stops the bill: answers that are stopped, and a balance that says so.

1. It asks for the balance, and says what the questions cost if a Stop stops the bill, and if not.
2. It asks all questions at once, each for a long answer, and stops each after ``_EVENTS`` events.
3. It waits until even the last answer would have ended, at the speed at which they came: if they
   had gone on, they would be billed by then.
4. It asks for the control: whole answers, as many as the balance can show.
5. It asks for the balance again, until that shows the control, and rests. A balance may be told
   late, and one that has not fallen yet proves nothing.

If the balance fell by the control and by what had come, and not by what was asked for, a Stop stops
the bill. It must be told finely enough for that: DeepSeek tells it in cents.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
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
MARGIN = 10.0
#: Seconds between two looks at a balance, until it rests.
LOOK_SECONDS = 5.0
MOST_LOOKS = 60
#: How many answers the control may take.
_MOST_CONTROLS = 20
_LONGEST_WAIT = 1800.0

_PROMPT = (
    "Write the numbers from 1 to 20000 in words, one on each line, with no other text. Do not stop."
)


#: The settings that count; all others have their defaults, whatever the environment says.
_SETTINGS = frozenset(
    {
        "DEEPSEEK_API_KEY",
        "DEEPSEEK_BASE_URL",
        "CHATPROXY_CONNECT_TIMEOUT",
        "CHATPROXY_IDLE_TIMEOUT",
        "CHATPROXY_LOG_FORMAT",
        "CHATPROXY_PRICES",
        "CHATPROXY_RUN_DIR",
        "CHATPROXY_TOKENIZER",
    }
)

AskBalance = Callable[[], "list[Cost]"]


@dataclass(frozen=True)
class _Asked:
    """An answer that has ended: how many events came in how many seconds, and its session."""

    seconds: float
    session: StreamSession

    @property
    def came(self) -> int:
        return self.session.account.usage.completion_tokens or self.session.events


Ask = Callable[["int | None"], _Asked]


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
    :raises click.ClickException: if the balance shows that the bill goes on, or shows nothing.
    """
    from ..accounting.prices import Prices

    now = datetime.now(timezone.utc)
    found = Prices(settings.prices).rates("DeepSeek", [model], now)
    if found is None:
        raise ConfigError(f"The price of {model!r} is not known; CHATPROXY_PRICES can tell it.")
    rates, currency = found
    before = _balance(ask_balance, currency)
    step = Decimal(1).scaleb(int(before.as_tuple().exponent))
    one = _output(rates, max_tokens)
    whole, controls = count * one, number_of_controls(one, step)
    at_once = count * _output(rates, _EVENTS)
    _check_step(whole - at_once, step)
    click.echo(
        f"{settings.base_url}, {model}: {count} questions at once, each for {max_tokens} tokens, "
        f"each stopped after {_EVENTS}.\n"
        f"They cost about {at_once:f} {currency} if a Stop stops the bill, "
        f"and about {whole:f} {currency} if not.\n"
        f"Whole answers for comparison, {controls}, cost up to {controls * one:f} {currency}.\n"
        f"The balance is {before:f} {currency}."
    )
    if asks:
        click.confirm("Spend that?", abort=True)
    ask = partial(_ask, *_application(), _payload(model, max_tokens))
    stopped = _at_once(ask, count, _EVENTS)
    _wait_for_the_end(stopped, max_tokens)
    control = _cost(rates, _at_once(ask, controls, None))
    if control < 2 * step:
        raise click.ClickException("The whole answers were too short to show in the balance.")
    came = _cost(rates, stopped)
    least = _output(rates, sum(each.session.events - 1 for each in stopped))  # one has no text
    latest = resting_balance(ask_balance, currency, before - least - control + step)
    fall = before - latest - control
    click.echo(
        f"Without the whole answers ({control:f}), the balance fell by {fall:f} {currency}. "
        f"What came costs about {came:f}; all of it would have cost {whole:f}."
    )
    judge(fall, least, whole, step)


def number_of_controls(one: Decimal, step: Decimal) -> int:
    """How many whole answers show in a balance, even if they become shorter than they may."""
    number = int(3 * step // one) + 1
    if number > _MOST_CONTROLS:
        raise _too_coarse(step)
    return number


def _check_step(amount: Decimal, step: Decimal) -> None:
    if amount < 2 * step:
        raise _too_coarse(step)


def _too_coarse(step: Decimal) -> click.ClickException:
    return click.ClickException(
        f"The balance is told in steps of {step:f}, too large to tell the one from the other: "
        "ask for more, with --answers or --max-tokens."
    )


def _cost(rates: Rates, answers: list[_Asked]) -> Decimal:
    return sum((rates.amount(each.session.account.usage) for each in answers), Decimal(0))


def _output(rates: Rates, tokens: int) -> Decimal:
    return rates.output * tokens / 1_000_000


def _balance(ask_balance: AskBalance, currency: str) -> Decimal:
    amounts = [each.amount for each in ask_balance() if each.currency == currency]
    if not amounts:
        raise click.ClickException(f"The key has no balance in {currency}.")
    return amounts[0]


def _application() -> tuple[Any, Any]:
    """An application that has nothing but what the questions need, and its state."""
    from ..app import create_app

    names = {option.metadata["name"] for option in fields(Settings)}
    app = create_app(dict.fromkeys(names - _SETTINGS, ""))
    return app, app.extensions["chatproxy"]


def _payload(model: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": max_tokens,
        "thinking": {"type": "disabled"},
    }


def _ask(app: Any, state: Any, payload: dict[str, Any], most: int | None) -> _Asked:
    """Ask a question, and stop the answer after so many events; None: never."""
    from ..runs.answer import Answer

    with app.app_context():
        question = state.prepare(payload)
    reader = state.service.begin(SessionKey("", ""), question, 0.0)
    with closing(Answer(reader, state.service.cancel_session, state.service.drop)) as answer:
        for _ in answer:
            if most is not None and answer.events >= most:
                answer.cancel()
                break
    session: StreamSession = reader.session
    session.closed.wait()
    first = session.first_event_at or session.started_at
    return _Asked(max(0.001, session.last_event_at - first), session)


def _at_once(ask: Ask, count: int, most: int | None) -> list[_Asked]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, [most] * count))


def _wait_for_the_end(stopped: list[_Asked], max_tokens: int) -> None:
    slowest = max(each.seconds / max(1, each.came) for each in stopped)
    seconds = min(_LONGEST_WAIT, slowest * max_tokens + MARGIN)
    click.echo(
        f"{sum(each.came for each in stopped)} tokens came, and all {len(stopped)} connections are "
        f"closed. Waiting {seconds:.0f} s, in which the answers would have ended ..."
    )
    time.sleep(seconds)


def resting_balance(ask_balance: AskBalance, currency: str, most: Decimal) -> Decimal:
    """The balance when it rests, below ``most``."""
    balance = _balance(ask_balance, currency)
    for _ in range(MOST_LOOKS):
        time.sleep(LOOK_SECONDS)
        latest, balance = balance, _balance(ask_balance, currency)
        if latest == balance <= most:
            return balance
    if balance > most:
        raise click.ClickException(
            "The balance does not show the whole answers: it is told too late to judge."
        )
    raise click.ClickException("The balance falls all the time: something else uses the key.")


def judge(fall: Decimal, came: Decimal, whole: Decimal, step: Decimal) -> None:
    """Say that a Stop stops the bill, or why that is not shown.

    :param fall: of the balance, for the answers that were stopped.
    :param came: what those cost as far as they came.
    :param whole: what they would have cost whole.
    :param step: the smallest amount that the balance shows.
    """
    _check_step(whole - came, step)
    if fall < came - step:
        raise click.ClickException(
            "The balance fell by less than what came: it can't be judged by that."
        )
    if fall - came > (whole - came) / 2:
        raise click.ClickException("A Stop does not stop the bill there.")
    click.echo("A Stop stops the bill.")
