"""The simulated DeepSeek bills as DeepSeek says: by the token, until a peer is seen to go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
import requests

from chatproxy.simulated import billing
from chatproxy.simulated.billing import PRICES, Accounts, Price, is_peak

from .support.instant import HELLO
from .support.waiting import wait_for
from .test_simulated import Running

#: In nano-dollars for each token; the hour of the test does not matter.
PRICE = Price(3, 150, 600)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(billing, "is_peak", lambda _: False)
    with closing(Running(balance=Decimal("0.001"))) as running:
        yield running


def ask(running: Running, key: str = "sk-1", **simulate: Any) -> requests.Response:
    scenario = {"rate": 0, **simulate}
    body = {**HELLO, "model": "deepseek-flash", "stream": True, "simulate": scenario}
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{running.url}/chat/completions"
    return requests.post(url, json=body, headers=headers, stream=True, timeout=10)


def left(running: Running, key: str = "sk-1") -> Decimal:
    headers = {"Authorization": f"Bearer {key}"}
    answer = requests.get(f"{running.url}/user/balance", headers=headers, timeout=10).json()
    (info,) = answer["balance_infos"]
    assert info["currency"] == "USD"
    return Decimal(info["total_balance"])


def over(running: Running, tag: str) -> dict[str, Any]:
    """The ledger's entry once the answer is over."""

    def look() -> Any:
        found = running.ledger(tag)["requests"]
        return found and not found[-1]["open"] and found[-1]

    entry: dict[str, Any] = wait_for(look)
    return entry


def test_a_whole_answer_takes_what_its_usage_costs(running: Running) -> None:
    assert (
        b'"prompt_cache_hit_tokens":2' in ask(running, tokens=7, cached_tokens=2, tag="a").content
    )
    entry = over(running, "a")
    assert (entry["prompt_tokens"], entry["cached_tokens"], entry["tokens"]) == (5, 2, 7)
    cost = Decimal(2 * PRICE.hit + 3 * PRICE.miss + 7 * PRICE.output) / 10**9
    assert Decimal(entry["billed"]) == Decimal("0.001") - left(running) == cost


def test_an_answer_that_is_left_takes_what_was_generated_until_then(running: Running) -> None:
    answer = ask(running, tokens=100_000, rate=500, tag="a")
    next(answer.iter_lines())
    answer.close()
    entry = over(running, "a")
    assert entry["peer_gone_how"]
    assert 0 < entry["tokens"] < 100_000
    cost = Decimal(5 * PRICE.miss + entry["tokens"] * PRICE.output) / 10**9
    assert Decimal(entry["billed"]) == Decimal("0.001") - left(running) == cost


@pytest.mark.parametrize(
    "simulate", [{"status": 500}, {"never": "tokens"}, {"first_token_delay": 60}]
)
def test_a_question_whose_turn_did_not_come_costs_nothing(
    running: Running, simulate: dict[str, Any]
) -> None:
    ask(running, tag="a", **simulate).close()
    assert Decimal(over(running, "a")["billed"]) == 0
    assert left(running) == Decimal("0.001")


def test_each_key_has_its_own_balance_and_is_refused_without_one(running: Running) -> None:
    assert ask(running, tokens=2000, tag="a").content  # more than there is
    over(running, "a")
    assert left(running) < 0
    assert ask(running).status_code == 402
    assert ask(running, key="sk-2", tokens=1).status_code == 200
    assert "sk-" not in repr(vars(running.server.ledger.accounts))


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-23T01:00", True),
        ("2026-11-23T03:59", True),
        ("2026-11-23T04:00", False),
        ("2026-11-23T06:00", True),
        ("2026-11-23T10:00", False),
        ("2026-11-22T02:00", False),
        ("2026-11-28T07:00", False),
    ],
)
def test_peak_hours_are_those_of_working_days(time: str, expected: bool) -> None:
    moment = datetime.fromisoformat(time).replace(tzinfo=timezone.utc)
    assert is_peak(moment) == expected
    price = PRICES["deepseek-v4-pro"].at(moment.timestamp())
    assert price == ((44, 1320, 3960) if expected else (22, 660, 1980))


def test_accounts_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billing, "CAPACITY", 2)
    accounts = Accounts()
    used = accounts.of("a")
    used.charge(5)
    assert accounts.of("a") is used
    accounts.of("b")
    accounts.of("c")
    assert accounts.of("a") is not used
