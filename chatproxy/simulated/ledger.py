"""The ledger: what the simulation saw, told by the only side that knows when a peer went away.

Rules it keeps:

- A request is written down when its headers have come, before anything is decided about it.
- A token is counted when it is made. Nothing is made for a peer that went away.
- A request ends once: answered in full, left by its peer, or ended by the simulation itself, as
  its scenario asked. What happens on the connection after that is not the request's affair.
- A connection counts from ``accept()`` on, before TLS and before its first byte. One that turns
  out to come for the ledger is taken back, so that looking does not change what is seen.
- A request is billed once, at its end, for what was generated until then.
- No key is ever stored, only whether there was one.

Times come in two forms: ``…_at`` is seconds since the epoch, ``…_mono`` is
:func:`time.monotonic`, which processes of one machine can compare.
"""

from __future__ import annotations

import operator
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .billing import Account, Accounts, Price, dollars

CAPACITY = 20_000


@dataclass(slots=True)
class Entry:
    """One request as the ledger tells it; see :meth:`as_json` for the names it goes by."""

    number: int
    method: str
    path: str
    authorization: bool
    accept_encoding: str | None
    received_at: float = field(default_factory=time.time)
    received_mono: float = field(default_factory=time.monotonic)
    tag: str | None = None
    model: str | None = None
    status: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    billed_nano: int = 0
    last_token_mono: float | None = None
    finished: bool = False
    peer_gone_at: float | None = None
    peer_gone_mono: float | None = None
    peer_gone_how: str | None = None
    open: bool = True
    account: Account | None = None
    price: Price | None = None

    def begin(self, prompt_tokens: int, cached_tokens: int, account: Account, price: Price) -> None:
        """It is this request's turn: from here on it is billed."""
        self.prompt_tokens, self.cached_tokens = prompt_tokens, cached_tokens
        self.account, self.price = account, price.at(self.received_at)

    def made(self, tokens: int) -> None:
        """So many tokens more have been generated."""
        self.tokens += tokens
        self.last_token_mono = time.monotonic()

    def finish(self) -> None:
        """The answer is written: a stream up to its ``[DONE]``, anything else to its end."""
        self.finished = self.open
        self.end()

    def end(self) -> None:
        """The simulation itself ended the answer before it was whole."""
        if self.open and self.account is not None and self.price is not None:
            missed = self.prompt_tokens - self.cached_tokens
            amounts = (self.cached_tokens, missed, self.tokens)
            self.billed_nano = sum(map(operator.mul, amounts, self.price))
            self.account.charge(self.billed_nano)
        self.open = False

    @property
    def billed(self) -> str:
        """What was billed, in dollars; nothing before the end."""
        return dollars(self.billed_nano)

    def peer_went(self, how: str) -> None:
        """The peer went away, ``"closed"`` (FIN) or ``"reset"`` (RST); too late once ended."""
        if self.open:
            self.end()
            self.peer_gone_at, self.peer_gone_mono = time.time(), time.monotonic()
            self.peer_gone_how = how

    def as_json(self) -> dict[str, Any]:
        """The entry as ``GET /ledger`` shows it: a value for every field, by the same names."""
        return {name: getattr(self, name) for name in _SHOWN}


_SHOWN = (
    "number",
    "tag",
    "method",
    "path",
    "model",
    "received_at",
    "received_mono",
    "authorization",
    "accept_encoding",
    "status",
    "prompt_tokens",
    "cached_tokens",
    "tokens",
    "billed",
    "last_token_mono",
    "finished",
    "peer_gone_at",
    "peer_gone_mono",
    "peer_gone_how",
    "open",
)


class Line:
    """One accepted connection, as far as the ledger counts it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._erasures = ledger.erasures
        self._counted = True
        ledger.accepted += 1
        ledger.open += 1

    def take_back(self) -> None:
        """The connection came for the ledger: count it as if it had never been."""
        if self._counted and self._erasures == self._ledger.erasures:
            self._ledger.accepted -= 1
        self.closed()

    def closed(self) -> None:
        """The connection is gone."""
        if self._counted:
            self._counted = False
            self._ledger.open -= 1


class Ledger:
    """Every request (the newest :data:`CAPACITY`) and the counts of connections.

    It belongs to the event loop that serves the requests and has no locks.

    :param accounts: to which the requests are billed; they stay as they are when it forgets.
    """

    def __init__(self, accounts: Accounts | None = None) -> None:
        self.accounts = accounts or Accounts()
        self.accepted = 0
        self.open = 0
        self.erasures = 0
        self._number = 0
        self._entries: deque[Entry] = deque(maxlen=CAPACITY)
        self._attempts: dict[str, int] = {}

    def connection(self) -> Line:
        """A connection was accepted."""
        return Line(self)

    def request(
        self, method: str, path: str, *, authorization: bool, accept_encoding: str | None
    ) -> Entry:
        """A request came; its entry, to be kept up to date."""
        self._number += 1
        entry = Entry(self._number, method, path, authorization, accept_encoding)
        self._entries.append(entry)
        return entry

    def attempt(self, tag: str) -> int:
        """Which request with this tag the present one is, from 1."""
        nth = self._attempts.pop(tag, 0) + 1
        self._attempts[tag] = nth
        if len(self._attempts) > CAPACITY:
            del self._attempts[next(iter(self._attempts))]
        return nth

    def erase(self) -> None:
        """Forget all requests, attempts and past connections; open connections stay counted."""
        self.erasures += 1
        self.accepted = 0
        self._entries.clear()
        self._attempts.clear()

    def as_json(self, tag: str | None = None) -> dict[str, Any]:
        """What ``GET /ledger`` shows, oldest request first; ``tag`` leaves the others out."""
        entries = (entry for entry in self._entries if tag is None or entry.tag == tag)
        return {
            "connections": {"accepted": self.accepted, "open": self.open},
            "requests": [entry.as_json() for entry in entries],
        }
