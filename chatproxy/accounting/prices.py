"""Prices: what tokens cost, by model, upstream and time, as tables in TOML say.

    [[prices]]
    upstream = "azure-eu"               # by its name; any upstream if left out
    models = ["gpt-large"]              # as the upstream calls them, or as clients do
    currency = "EUR"
    from = 2026-10-01T00:00:00Z         # optional: since when
    input = "2.50"                      # for a million tokens; a text, so that it is exact
    cached_input = "0.25"               # as input, if left out
    output = "10"

What is dearer at times has two tables of these three, ``peak`` and ``off_peak``, and the file a
table ``[peak_hours]``; ``prices.toml`` beside this module shows it. That has DeepSeek's prices, and
is looked at last. Of several prices of one table the latest that has begun counts.

Amounts are decimals, and never rounded.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

from .. import toml_files
from ..answers.usage import Cost, Usage
from ..toml_files import Mistake

_OURS = Path(__file__).with_name("prices.toml")
_MILLION = Decimal(1_000_000)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_RATES = frozenset({"input", "cached_input", "output"})
_FIELDS = _RATES | {"upstream", "models", "currency", "from", "peak", "off_peak"}
_ALWAYS = dt.datetime.min.replace(tzinfo=dt.timezone.utc)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Rates:
    """What a million tokens cost."""

    input: Decimal
    cached_input: Decimal
    output: Decimal

    def amount(self, usage: Usage) -> Decimal:
        """What so many tokens cost."""
        cached = usage.cached_tokens
        return (
            self.input * (usage.prompt_tokens - cached)
            + self.cached_input * cached
            + self.output * usage.completion_tokens
        ) / _MILLION


@dataclass(frozen=True)
class _PeakHours:
    hours: tuple[tuple[dt.time, dt.time], ...] = ()
    days: frozenset[int] = frozenset()
    exceptions: frozenset[dt.date] = frozenset()

    def has(self, at: dt.datetime) -> bool:
        if at.weekday() not in self.days or at.date() in self.exceptions:
            return False
        return any(begin <= at.time() < end for begin, end in self.hours)


@dataclass(frozen=True)
class _Price:
    upstream: str | None
    models: frozenset[str]
    currency: str
    since: dt.datetime
    peak: Rates
    off_peak: Rates


class PriceTable:
    """The prices of one file.

    :param document: what is in it, as TOML has it.
    :raises ValueError: if it can't be used; the text names the place.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        _check_names("the file", document, frozenset({"as_of", "prices", "peak_hours"}))
        self._peak_hours = toml_files.at("[peak_hours]", _peak_hours, document.get("peak_hours"))
        listed = document.get("prices", [])
        if not isinstance(listed, list):
            raise Mistake("prices must be a list of tables")
        prices = [
            toml_files.at(f"price {number}", _price, each) for number, each in enumerate(listed, 1)
        ]
        self._prices = sorted(prices, key=lambda price: price.since, reverse=True)

    def rates(
        self, upstream: str, models: Sequence[str], at: dt.datetime, *, dearest: bool = False
    ) -> tuple[Rates, str] | None:
        """What tokens cost, and in which currency; None if that is not known.

        :param models: what the model is called, by the upstream and by clients.
        :param at: in UTC.
        :param dearest: whether the peak's rates are meant, whatever the time.
        """
        for price in self._prices:
            is_here = price.upstream in (None, upstream) and price.since <= at
            if is_here and not price.models.isdisjoint(models):
                is_peak = dearest or self._peak_hours.has(at)
                return price.peak if is_peak else price.off_peak, price.currency
        return None


class Prices:
    """The operator's table, if there is one, and DeepSeek's behind it.

    :param path: of the operator's; "" for none.
    :raises ConfigError: if it can't be read or used.
    """

    def __init__(self, path: str = "") -> None:
        self._tables = [toml_files.load("DeepSeek's prices", str(_OURS), PriceTable)]
        if path:
            self._tables.insert(0, toml_files.load("CHATPROXY_PRICES", path, PriceTable))

    def rates(
        self, upstream: str, models: Sequence[str], at: dt.datetime, *, dearest: bool = False
    ) -> tuple[Rates, str] | None:
        """See ``PriceTable.rates``."""
        found = (table.rates(upstream, models, at, dearest=dearest) for table in self._tables)
        return next((each for each in found if each is not None), None)

    def cost(
        self, upstream: str, models: Sequence[str], at: dt.datetime, usage: Usage
    ) -> Cost | None:
        """What an answer has cost; None if that is not known. See ``PriceTable.rates``."""
        found = self.rates(upstream, models, at) if usage.tokens else None
        return None if found is None else Cost(found[0].amount(usage), found[1])


def _check_names(place: str, table: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise Mistake(f"{place} has no {unknown[0]}; it may have {', '.join(sorted(known))}")


def _price(table: Any) -> _Price:
    table = toml_files.table("it", table)
    _check_names("it", table, _FIELDS)
    models, currency, since = table.get("models"), table.get("currency"), table.get("from", _ALWAYS)
    upstream = table.get("upstream")
    if not isinstance(models, list) or not models or not all(isinstance(m, str) for m in models):
        raise Mistake("models must be a list of names")
    if not isinstance(currency, str) or len(currency) != 3 or not currency.isupper():
        raise Mistake("currency must be three capital letters, such as USD")
    if not isinstance(since, dt.datetime) or since.tzinfo is None:
        raise Mistake("from must be a time with its zone, such as 2026-10-01T00:00:00Z")
    if not (upstream is None or isinstance(upstream, str)):
        raise Mistake("upstream must be a name")
    has_peak = {"peak", "off_peak"} & set(table)
    if has_peak and (len(has_peak) < 2 or _RATES & set(table)):
        raise Mistake("it must have peak and off_peak, or input and output, and not both")
    peak = _rates(table["peak"] if has_peak else table)
    off_peak = _rates(table["off_peak"]) if has_peak else peak
    return _Price(upstream, frozenset(models), currency, since, peak, off_peak)


def _rates(table: Any) -> Rates:
    if not isinstance(table, dict):
        raise Mistake("peak and off_peak must be tables")
    cost = {name: _decimal(name, table[name]) for name in _RATES & set(table)}
    if not {"input", "output"} <= set(cost):
        raise Mistake("input and output are needed")
    return Rates(cost["input"], cost.get("cached_input", cost["input"]), cost["output"])


def _decimal(name: str, value: object) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0 or amount > _MILLION:
        raise Mistake(f"{name} must be a price for a million tokens, such as '0.15'")
    return amount


def _peak_hours(table: Any) -> _PeakHours:
    if table is None:
        return _PeakHours()
    table = toml_files.table("it", table)
    _check_names("it", table, frozenset({"hours", "days", "except"}))
    days, exceptions = table.get("days", list(_DAYS)), table.get("except", [])
    if not isinstance(days, list) or not set(days) <= set(_DAYS):
        raise Mistake(f"days must be a list of {', '.join(_DAYS)}")
    if not isinstance(exceptions, list) or not all(type(day) is dt.date for day in exceptions):
        raise Mistake("except must be a list of dates")
    hours = tuple(map(_hours, table.get("hours", [])))
    return _PeakHours(hours, frozenset(map(_DAYS.index, days)), frozenset(exceptions))


def _hours(text: object) -> tuple[dt.time, dt.time]:
    begin, _, end = str(text).partition("-")
    try:
        return dt.time.fromisoformat(begin), dt.time.fromisoformat(end)
    except ValueError:
        raise Mistake("hours must be a list of spans such as '01:00-04:00', in UTC") from None
