"""What tokens cost: DeepSeek's prices, and an operator's."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from chatproxy.accounting.prices import Prices
from chatproxy.answers.usage import Cost, Usage, UsageSource, counted
from chatproxy.errors import ConfigError

PEAK = dt.datetime(2026, 11, 26, 1, 30, tzinfo=dt.timezone.utc)  # a Thursday
MILLION = counted(1_000_000, 1_000_000)


def cost_at(at: dt.datetime, model: str = "deepseek-flash", usage: Usage = MILLION) -> Cost | None:
    return Prices().cost("DeepSeek", ("", model), at, usage)


@pytest.mark.parametrize(
    ("at", "amount"),
    [
        (PEAK, "1.50"),
        (PEAK.replace(hour=0, minute=59), "0.75"),
        (PEAK.replace(hour=4, minute=0), "0.75"),
        (PEAK.replace(hour=9), "1.50"),
        (PEAK.replace(day=28), "0.75"),  # a Saturday
        (PEAK.replace(month=10, day=1), "0.75"),  # a public holiday
    ],
)
def test_deepseek_is_dearer_in_its_peak_hours(at: dt.datetime, amount: str) -> None:
    assert cost_at(at) == Cost(Decimal(amount), "USD")


@pytest.mark.parametrize(
    "cached",
    [{"prompt_cache_hit_tokens": 400}, {"prompt_tokens_details": {"cached_tokens": 400}}],
)
def test_what_came_from_the_cache_is_cheaper_and_nothing_is_rounded(
    cached: dict[str, object],
) -> None:
    usage = Usage(UsageSource.PROVIDER, {"prompt_tokens": 1000, "completion_tokens": 1, **cached})
    assert cost_at(PEAK, usage=usage) == Cost(Decimal("0.0001836"), "USD")


def test_a_model_without_a_price_and_an_answer_of_nothing_have_no_cost() -> None:
    assert cost_at(PEAK, "another") is None
    assert cost_at(PEAK, usage=Usage()) is None
    assert Prices().cost("OpenRouter", ("deepseek-flash",), PEAK, MILLION) is None


OURS = """
[[prices]]
models = ["m"]
currency = "EUR"
input = "1"
output = "2"

[[prices]]
models = ["m"]
upstream = "azure"
currency = "EUR"
from = 2026-11-01T00:00:00Z
input = "10"
output = "20"
"""


def test_an_operators_price_counts_from_its_time_on_and_before_ours(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        OURS + '[[prices]]\nmodels=["deepseek-flash"]\ncurrency="CNY"\ninput=1\noutput=4'
    )
    prices = Prices(str(path))
    before = PEAK.replace(month=10)
    assert prices.cost("azure", ("m",), PEAK, MILLION) == Cost(Decimal(30), "EUR")
    assert prices.cost("azure", ("m",), before, MILLION) == Cost(Decimal(3), "EUR")
    assert prices.cost("other", ("m",), PEAK, MILLION) == Cost(Decimal(3), "EUR")
    assert prices.cost("DeepSeek", ("deepseek-flash",), PEAK, MILLION) == Cost(Decimal(5), "CNY")
    assert prices.cost("DeepSeek", ("deepseek-v4-pro",), PEAK, MILLION) is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prices = 1", "prices must be a list of tables"),
        ("[[prices]]\nmodels = []", "price 1: models must be a list of names"),
        ("[[prices]]\nmodels = ['m']\ncurrency = 'euro'", "price 1: currency must be three"),
        ("[[prices]]\nmodels = ['m']\ncurrency = 'EUR'", "price 1: input and output are needed"),
        (OURS.replace('"20"', '"-1"'), "price 2: output must be a price"),
        (OURS.replace("from = 2026-11-01T00:00:00Z", "from = 2026"), "price 2: from must be"),
        (OURS + "peak = {}", "price 2: it must have peak and off_peak"),
        (OURS + "color = 1", "price 2: it has no color"),
        ("[peak_hours]\nhours = ['1-2']", r"\[peak_hours\]: hours must be"),
        ("[peak_hours]\ndays = ['Monday']", r"\[peak_hours\]: days must be"),
        ("x", "Expected"),
    ],
)
def test_a_mistake_stops_the_start_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"CHATPROXY_PRICES: {path}: {problem}"):
        Prices(str(path))
    with pytest.raises(ConfigError, match="No such file"):
        Prices(str(tmp_path / "none.toml"))
