"""Billing, as DeepSeek describes it (https://api-docs.deepseek.com/quick_start/pricing).

Each key has a balance. An answer takes from it, once it has ended, what it came to: the tokens of
the question, cheaper if they came from the cache, and the tokens that were generated until the
answer was whole or the peer was seen to go. A question that is refused, or left before its turn,
costs nothing. An account without a balance is refused (402), as DeepSeek does it.

The prices are those of November 2026, and hold at the moment at which the question came. In peak
hours, 01:00 to 04:00 and 06:00 to 10:00 UTC from Monday to Friday, they are twice as high. Chinese
holidays, which have no peak hours, are unknown here.

Amounts are whole nano-dollars: so a price is a whole number for each token, and nothing is rounded.
DeepSeek tells a balance in cents. Here it has nine decimals, so that one token shows.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from decimal import Decimal
from typing import NamedTuple

#: Play money that no test or measurement uses up.
BALANCE = Decimal(1_000_000)

_NANO = 1_000_000_000
#: How many accounts are remembered.
CAPACITY = 20_000


class Price(NamedTuple):
    """Nano-dollars for a token: of the question, from the cache or not, and of the answer."""

    hit: int
    miss: int
    output: int

    def at(self, moment: float) -> Price:
        """The price at a time, in seconds since the epoch."""
        times = 2 if is_peak(datetime.fromtimestamp(moment, timezone.utc)) else 1
        return Price(*(times * each for each in self))


PRICES = {
    "deepseek-flash": Price(3, 150, 600),
    "deepseek-v4-pro": Price(22, 660, 1980),
}


def is_peak(time: datetime) -> bool:
    """Whether prices are high at a time in UTC."""
    return time.weekday() < 5 and (1 <= time.hour < 4 or 6 <= time.hour < 10)


class Account:
    """The money of one key."""

    def __init__(self, balance: int) -> None:
        self._nano = balance

    @property
    def is_available(self) -> bool:
        """Whether there is any money left."""
        return self._nano > 0

    @property
    def balance(self) -> str:
        """What is left, in dollars with nine decimals."""
        return dollars(self._nano)

    def charge(self, nano: int) -> None:
        """Take so many nano-dollars, even if there are not so many."""
        self._nano -= nano


class Accounts:
    """The accounts by their keys. No key is kept, only a digest of it.

    :param balance: dollars that each begins with.
    """

    def __init__(self, balance: Decimal = BALANCE) -> None:
        self._begins_with = int(balance * _NANO)
        self._accounts: dict[bytes, Account] = {}

    def of(self, key: str) -> Account:
        """The account of a key; a new one if it has none."""
        digest = hashlib.sha256(key.encode()).digest()
        begins_with = 0 if key == "broke" else self._begins_with
        account = self._accounts.pop(digest, None) or Account(begins_with)
        self._accounts[digest] = account
        if len(self._accounts) > CAPACITY:
            del self._accounts[next(iter(self._accounts))]
        return account


def dollars(nano: int) -> str:
    """An amount of nano-dollars as dollars with nine decimals."""
    sign = "-" if nano < 0 else ""
    return f"{sign}{abs(nano) // _NANO}.{abs(nano) % _NANO:09d}"
