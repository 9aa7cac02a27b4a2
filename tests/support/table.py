"""Peers within one process, for tests that need no others, or that decide what others say."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any

from chatproxy.accounting.accountant import Accountant
from chatproxy.accounting.prices import Prices
from chatproxy.answers.coroutines import Coroutine, run
from chatproxy.answers.reservation import AccountKey, Draw
from chatproxy.cluster.peers import LeaseKey, Message, Peers
from chatproxy.cluster.registry import Registry
from chatproxy.cluster.rpc import RpcDispatcher
from chatproxy.config import Settings
from chatproxy.errors import PeersUnavailable
from chatproxy.service import AnswerService

_numbers = itertools.count(1)


class Table:
    """What several peers share.

    ``away`` makes it unreachable; a worker in ``mute`` does not answer.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders: dict[LeaseKey, str] = {}
        self.drawn: dict[AccountKey, int] = {}
        self.members: dict[str, TablePeers] = {}
        self.away = False
        self.mute: set[str] = set()


def service_of(registry: Registry, upstream: Any = None, **settings: Any) -> AnswerService:
    """The service of a worker, which makes its answers in threads."""

    def spawn(coroutine: Coroutine[None]) -> None:
        threading.Thread(target=run, args=(coroutine,), daemon=True).start()

    return AnswerService(
        Settings(base_url="http://127.0.0.1:1", **settings),
        registry.sender,
        registry,
        upstream,
        Accountant(Prices(), None),
        spawn=spawn,
        tell=lambda _session: None,
    )


def sit_down(registry: Registry, peers: Peers) -> Registry:
    """Have a registry answer the questions of its peers."""
    peers.serve(
        RpcDispatcher(registry, service_of(registry).remote_readers).dispatch, registry.lose
    )
    return registry


class TablePeers:
    """One worker at a table."""

    def __init__(self, table: Table | None = None) -> None:
        self.table = table or Table()
        self.name = f"worker-{next(_numbers)}"
        self.accounts = self
        self.table.members[self.name] = self
        self.answer: Callable[[Message], Message] = lambda _question: {"state": "nothing"}

    def serve(self, answer: Callable[[Message], Message], lost: Callable[[LeaseKey], None]) -> None:
        self.answer = answer

    def open(self) -> None:
        pass

    def check(self, *, allow_offline: bool = False) -> None:
        if self.table.away and not allow_offline:
            raise PeersUnavailable("The table is away.")

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        if self.table.away:
            if allow_offline:
                return None
            raise PeersUnavailable("The table is away.")
        with self.table.lock:
            if key in self.table.holders:
                return self.table.holders[key]
            self.table.holders[key] = self.name
            return None

    def holder(self, key: LeaseKey) -> str | None:
        if self.table.away:
            raise PeersUnavailable("The table is away.")
        return self.table.holders.get(key)

    def others(self) -> list[str]:
        return [name for name in self.table.members if name != self.name]

    def free(self, keys: Iterable[LeaseKey]) -> None:
        with self.table.lock:
            for key in keys:
                if self.table.holders.get(key) == self.name:
                    del self.table.holders[key]

    def ask(self, holder: str, question: Message, seconds: float) -> Message:
        if self.table.away or holder in self.table.mute:
            raise PeersUnavailable("No answer.")
        return self.table.members[holder].answer(question)

    def draw(
        self,
        account: AccountKey,
        *,
        least: int,
        wanted: int,
        most: int,
        until: float,
        initial: int | None = None,
    ) -> Draw | None:
        if self.table.away:
            raise PeersUnavailable("The table is away.")
        with self.table.lock:
            drawn = self.table.drawn.get(account, initial)
            if drawn is None:
                return None
            left = max(0, most - drawn)
            amount = min(wanted, left) if left >= least else 0
            self.table.drawn[account] = drawn + amount
            return Draw(amount, left - amount)

    def settle(self, account: AccountKey, draw: Draw, used: int) -> None:
        with self.table.lock:
            self.table.drawn[account] += used - draw.amount

    def close(self) -> None:
        with self.table.lock:
            mine = [key for key, name in self.table.holders.items() if name == self.name]
        self.free(mine)
