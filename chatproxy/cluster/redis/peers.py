"""The peers of any number of hosts, through Redis or Valkey.

Each worker has two threads: the keeper of its leases (``keeper``), and one that listens to its
mailbox (``mailbox``). A worker that alone has been cut off for longer than its lease has lost its
keys.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterable

from ... import forks
from ...errors import ConfigError
from ..peers import LeaseKey, Message
from .accounts import RedisAccounts
from .client import RedisClient
from .keeper import LeaseKeeper, settling_seconds, shutting_down
from .leases import LeaseStore, worker_of
from .mailbox import Mailbox

#: Seconds for which a check waits for the first look at Redis.
_FIRST_LOOK_SECONDS = 0.5
#: The shortest lease, in seconds: it must outlive an operation that fails.
_SHORTEST_LEASE = 2.0


class RedisPeers:
    """The workers that share a Redis; see ``Peers``.

    Nothing is opened before the first use. A process that forks after that has a child that is a
    worker of its own, and opens what it needs itself.

    :param url: see ``RedisClient``.
    :param scope: the name of the application; each has workers and keys of its own.
    :param lease: seconds after which the keys of a worker that died are free.
    :param has_records: see ``RedisAccounts``.
    :raises ConfigError: if the URL is wrong, or the lease too short.
    """

    def __init__(self, url: str, scope: str, lease: float, *, has_records: bool = False) -> None:
        if lease < _SHORTEST_LEASE:
            raise ConfigError(f"CHATPROXY_LEASE must be at least {_SHORTEST_LEASE:g} with Redis.")
        self._redis = RedisClient(url)
        self._prefix = f"chatproxy:{scope}:"
        self._lease = lease
        settling = settling_seconds(lease, self._redis.slowest)
        self._store = LeaseStore(self._redis, self._prefix, lease, settling)
        self.accounts = RedisAccounts(self._redis, self._prefix, self.open, has_records=has_records)
        self._handler: Callable[[Message], Message] | None = None
        self._on_lost: Callable[[LeaseKey], None] | None = None
        self._keeper: LeaseKeeper | None = None
        self._mailbox: Mailbox | None = None
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        if self._keeper is not None and self._mailbox is not None:  # the parent's
            self._keeper.abandon()
            self._mailbox.abandon()
        self._keeper = self._mailbox = None
        self._closed = False
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
        #: The name of this worker; each process has its own, even if several fork from one.
        self.name = f"{host}-{secrets.token_hex(4)}"

    def serve(
        self, handler: Callable[[Message], Message], on_lost: Callable[[LeaseKey], None]
    ) -> None:
        """Have requests to this worker answered; see ``Peers``."""
        self._handler, self._on_lost = handler, on_lost

    def open(self) -> None:
        """Begin to look at Redis and to listen; see ``Peers``."""
        self._start()

    def check(self, *, allow_offline: bool = False) -> None:
        """See that a key could be taken; see ``Peers``."""
        keeper, _ = self._start()
        if not allow_offline:
            keeper.looked.wait(_FIRST_LOOK_SECONDS)
            self._store.check()

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        """Take a key, unless a worker holds it already; see ``Peers``."""
        keeper, _ = self._start()
        return keeper.take(key, allow_offline=allow_offline)

    def holder(self, key: LeaseKey) -> str | None:
        """The worker that holds a key; see ``Peers``."""
        self._start()
        token = self._store.find(self._store.name(key))
        return token and worker_of(token)

    def others(self) -> list[str]:
        """The other workers; see ``Peers``."""
        self._start()
        return [name for name in self._store.workers() if name != self.name]

    def free(self, keys: Iterable[LeaseKey]) -> None:
        """Hold these keys no longer; see ``Peers``."""
        if self._keeper is not None:
            self._keeper.free(keys)

    def ask(self, holder: str, request: Message, seconds: float) -> Message:
        """Send a request to a worker, and wait for its reply; see ``Peers``."""
        _, mailbox = self._start()
        return mailbox.ask(holder, request, seconds)

    def close(self) -> None:
        """Free all keys, and answer no more; see ``Peers``. Takes about two seconds at most."""
        with self._lock:
            was_closed, self._closed = self._closed, True
            keeper, mailbox = self._keeper, self._mailbox
        if was_closed or keeper is None or mailbox is None:
            return
        keeper.close()
        self.accounts.settle_late()
        self._store.unregister(self.name)
        mailbox.close()
        self._redis.close()

    def _start(self) -> tuple[LeaseKeeper, Mailbox]:
        """See to it that the threads run, in this process."""
        with self._lock:
            if self._closed:
                raise shutting_down()
            if self._keeper is None or self._mailbox is None:
                mailbox = Mailbox(
                    self._redis, self.name, self._mailbox_of, self._reply, self._store.time
                )
                keeper = LeaseKeeper(
                    self._redis,
                    self._store,
                    self.name,
                    self._lease,
                    self._lose,
                    on_look=self.accounts.settle_late,
                )
                mailbox.open()
                try:
                    keeper.open()
                except BaseException:  # no more threads, say; two mailboxes would share one list
                    mailbox.close()
                    raise
                self._keeper, self._mailbox = keeper, mailbox
            return self._keeper, self._mailbox

    def _mailbox_of(self, worker: str) -> str:
        return f"{self._prefix}inbox:{worker}"

    def _reply(self, request: Message) -> Message:
        assert self._handler is not None, "serve comes first"
        return self._handler(request)

    def _lose(self, key: LeaseKey) -> None:
        if self._on_lost is not None:
            self._on_lost(key)
