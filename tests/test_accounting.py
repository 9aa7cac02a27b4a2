"""What an answer came to: its tokens, where the numbers come from, what it cost."""

from __future__ import annotations

from decimal import Decimal

import pytest

from chatproxy.answers.usage import (
    Account,
    Cost,
    Saved,
    Usage,
    UsageSource,
    counted,
    received,
    total,
)

ACCOUNTS = [
    Account(),
    Account(counted(10, 20), Cost(Decimal("0.000012"), "USD"), Saved(7800)),
    Account(counted(3, 4, UsageSource.ESTIMATED, 0.25), None, Saved(None, (300, 100, 900))),
    Account(Usage(UsageSource.PROVIDER, {"prompt_tokens": 5, "prompt_cache_hit_tokens": 4})),
]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_an_account_arrives_at_another_worker_as_it_was_sent(account: Account) -> None:
    assert received(account.as_json()) == account


def test_a_sum_is_as_sure_as_the_least_sure_of_its_parts() -> None:
    calls = [counted(1, 100), counted(2, 300, UsageSource.ESTIMATED, 0.4), Usage()]
    assert total(calls) == counted(3, 400, UsageSource.ESTIMATED, 0.3)
    assert total([Usage()]) == Usage()


@pytest.mark.parametrize("tokens", [{}, {"prompt_tokens": "5"}, {"prompt_tokens": -5}])
def test_what_a_provider_gets_wrong_counts_as_nothing(tokens: dict[str, object]) -> None:
    assert Usage(UsageSource.PROVIDER, tokens).total_tokens == 0
