"""Usage: how many tokens an answer has taken, who says so, what it cost, and what a Stop saved.

An answer that ends by itself has the provider's own usage, with its last event. One that is stopped
or broken off has none: then the tokens are counted or estimated from what was sent and what has
come. So three facts belong together, and none stands for all: the numbers, their ``source``, and
the ``spread`` within which an estimate lies.

The names of the tokens are DeepSeek's (https://api-docs.deepseek.com/api/create-chat-completion).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any


class UsageSource(str, Enum):
    """Where a number of tokens comes from. The values are part of receipts, records and metrics."""

    #: The service said so.
    PROVIDER = "provider"
    #: A tokenizer of the model's has counted the question, and the text that had come.
    COUNTED = "counted"
    #: It was worked out from the length of both.
    ESTIMATED = "estimated"
    #: Nothing is known, or nothing was sent.
    NONE = "none"


#: From the surest to the least sure; a sum is as sure as the least sure of its parts.
_ORDER = list(UsageSource)


@dataclass(frozen=True)
class Usage:
    """The tokens of one answer, or of one call.

    :ivar tokens: ``prompt_tokens``, ``completion_tokens`` and ``total_tokens``; of a provider all
        that it has sent, as it has sent it.
    :ivar spread: the part of ``completion_tokens`` by which an estimate may be wrong, either way:
        0.2 for a fifth. None if it is no estimate.
    """

    source: UsageSource = UsageSource.NONE
    tokens: Mapping[str, Any] = field(default_factory=dict)
    spread: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """The tokens of the question; 0 if they are not known."""
        return _count(self.tokens.get("prompt_tokens"))

    @property
    def completion_tokens(self) -> int:
        """The tokens of the answer, those of its reasoning among them; 0 if they are not known."""
        return _count(self.tokens.get("completion_tokens"))

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cached_tokens(self) -> int:
        """Those of ``prompt_tokens`` that came from the provider's cache.

        DeepSeek has them as ``prompt_cache_hit_tokens``, OpenAI as ``cached_tokens``.
        """
        details = self.tokens.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        return min(
            _count(self.tokens.get("prompt_cache_hit_tokens")) or _count(cached), self.prompt_tokens
        )

    @property
    def reasoning_tokens(self) -> int:
        """Those of ``completion_tokens`` that are reasoning."""
        details = self.tokens.get("completion_tokens_details")
        return _count(details.get("reasoning_tokens")) if isinstance(details, dict) else 0


def counted(
    prompt: int,
    completion: int,
    source: UsageSource = UsageSource.COUNTED,
    spread: float | None = None,
) -> Usage:
    """The usage of so many tokens."""
    tokens = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return Usage(source, tokens, spread)


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of several calls, as sure as the least sure of them."""
    known = [each for each in usages if each.source is not UsageSource.NONE]
    if not known:
        return Usage()
    completion = sum(each.completion_tokens for each in known)
    wrong_by = sum((each.spread or 0.0) * each.completion_tokens for each in known)
    source = max((each.source for each in known), key=_ORDER.index)
    is_estimate = source is UsageSource.ESTIMATED
    spread = round(wrong_by / completion, 3) if is_estimate and completion else None
    return counted(sum(each.prompt_tokens for each in known), completion, source, spread)


@dataclass(frozen=True)
class Cost:
    """An amount of money. ``currency`` is three letters (ISO 4217)."""

    amount: Decimal
    currency: str

    def as_json(self) -> dict[str, Any]:
        """As clients get it; the amount is a number."""
        return {"amount": float(self.amount), "currency": self.currency}


@dataclass(frozen=True)
class Saved:
    """The tokens that a Stop has saved: what may be, never a fact.

    :ivar at_most: ``max_tokens`` less what came; None if the question had no ``max_tokens``.
    :ivar likely: what finished answers of this model had beyond this length: the median, the lower
        and the upper quartile; None while there are too few.
    """

    at_most: int | None = None
    likely: tuple[int, int, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """As clients get it, without what is not known."""
        fields: dict[str, Any] = {}
        if self.at_most is not None:
            fields["savedAtMost"] = self.at_most
        if self.likely is not None:
            median, low, high = self.likely
            fields["savedLikely"] = {"tokens": median, "from": low, "to": high}
        return fields


@dataclass(frozen=True)
class Account:
    """What an answer, or one call of it, came to.

    :ivar cost: None if the model has no price, or nothing is known of its tokens.
    :ivar saved: None if it was not stopped.
    """

    usage: Usage = field(default_factory=Usage)
    cost: Cost | None = None
    saved: Saved | None = None

    def as_json(self) -> dict[str, Any]:
        """As clients get it: ``usage``, ``usageSource``, ``cost``, and what only some have."""
        fields: dict[str, Any] = {
            "usage": dict(self.usage.tokens) or None,
            "usageSource": self.usage.source,
            "cost": None if self.cost is None else self.cost.as_json(),
        }
        if self.usage.spread is not None:
            fields["usageSpread"] = self.usage.spread
        if self.saved is not None:
            fields |= self.saved.as_json()
        return fields


#: Of an answer that nothing is known of.
NO_ACCOUNT = Account()


def sum_of(accounts: Iterable[Account]) -> Account:
    """What several calls came to; their cost is known if each one's is, all in one currency."""
    known = [each for each in accounts if each.usage.source is not UsageSource.NONE]
    costs = [each.cost for each in known if each.cost is not None]
    cost = None
    if costs and len(costs) == len(known) and len({each.currency for each in costs}) == 1:
        cost = Cost(sum((each.amount for each in costs), Decimal(0)), costs[0].currency)
    saved = [each.saved.at_most for each in known if each.saved and each.saved.at_most is not None]
    return Account(total(each.usage for each in known), cost, Saved(sum(saved)) if saved else None)


def received(fields: Mapping[str, Any]) -> Account:
    """The account that another worker has sent, as ``as_json`` has it.

    :raises ValueError, TypeError, KeyError, ArithmeticError: if it is none.
    """
    cost, likely = fields.get("cost"), fields.get("savedLikely")
    saved = None
    if "savedAtMost" in fields or likely is not None:
        at_most = fields.get("savedAtMost")
        quartiles = None
        if likely is not None:
            quartiles = int(likely["tokens"]), int(likely["from"]), int(likely["to"])
        saved = Saved(None if at_most is None else int(at_most), quartiles)
    spread = fields.get("usageSpread")
    return Account(
        Usage(
            UsageSource(fields.get("usageSource", UsageSource.NONE)),
            dict(fields.get("usage") or {}),
            None if spread is None else float(spread),
        ),
        None if cost is None else Cost(Decimal(repr(cost["amount"])), str(cost["currency"])),
        saved,
    )


def _count(value: object) -> int:
    """A number of tokens, as a provider may have sent it."""
    return value if type(value) is int and value > 0 else 0
