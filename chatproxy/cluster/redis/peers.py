"""The other workers, on any number of hosts, by Redis or Valkey.

Each worker has two threads. The *keeper* looks at Redis at least once a second, renews the leases
of what this worker holds, and frees what could not be freed while Redis was away. The other listens
to the mailbox. A worker that has been cut off for longer than its lease may find that another holds
a key by now; then that key is lost.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ...errors import ConfigError, PeersUnavailable
from ..peers import LeaseKey, Message
from .client import RedisClient, Uncertain
from .leases import LATEST, Lease, LeaseStore
from .mailbox import Mailbox

logger = logging.getLogger("chatproxy")

#: Seconds between two looks at Redis, at the most, and while it is away.
_TICK = 1.0
_AWAY_TICK = 0.5
#: Seconds of the settling time for a worker that is slow.
_SLACK = 1.0
#: Seconds for which a check waits for the first look.
_FIRST_LOOK_SECONDS = 0.5
#: The shortest lease, in seconds: it must outlive an operation that fails.
_SHORTEST_LEASE = 2.0


class RedisPeers:
    """The workers that share a Redis; see ``Peers``.

    Nothing is opened before the first ``take`` or ``ask``, so that a process may fork until then.

    :param url: see ``RedisClient``.
    :param scope: the name of the application; each has workers and keys of its own.
    :param lease: seconds after which the keys of a worker that died are free.
    :raises ConfigError: where the URL is wrong, or the lease too short.
    """

    def __init__(self, url: str, scope: str, lease: float) -> None:
        if lease < _SHORTEST_LEASE:
            raise ConfigError(f"CHATPROXY_LEASE must be at least {_SHORTEST_LEASE:g} with Redis.")
        self._redis = RedisClient(url)
        self._prefix = f"chatproxy:{scope}:"
        self._period = lease / 6
        self._tick = min(_TICK, self._period)
        # As long as the keeper of a worker that is not cut off may take to notice, which either
        # sleeps or is in the midst of a try that fails, and to renew.
        settling = max(self._tick, self._redis.slowest + _AWAY_TICK) + _SLACK
        self._store = LeaseStore(self._redis, self._prefix, lease, settling, self._make_held)
        self._answer: Callable[[Message], Message] | None = None
        self._on_lost: Callable[[LeaseKey], None] | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._mailbox: Mailbox | None = None
        #: Whether Redis has been looked at, or tried to.
        self._looked = threading.Event()
        self._closed = False
        self._name, self._process = "", 0
        self._held: dict[LeaseKey, Lease] = {}
        #: Those of them that were taken while Redis was away.
        self._provisional: dict[LeaseKey, Lease] = {}
        #: The tokens with which keys are being taken now.
        self._pending: set[str] = set()
        #: Those of them, or of what was held, that the keeper may just be making in Redis.
        self._making: set[Lease] = set()
        #: What Redis may have of this worker, and should not; and until when, by the monotonic
        #: clock, a script that is under way may bring it back.
        self._stale: dict[Lease, float] = {}
        # The keeper's own.
        self._known_epoch = b""
        self._due = 0.0

    @property
    def name(self) -> str:
        """The name of this worker; each process has its own, even where several fork from one."""
        if self._process != os.getpid():
            host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
            self._name, self._process = f"{host}-{secrets.token_hex(4)}", os.getpid()
        return self._name

    def serve(self, answer: Callable[[Message], Message], lost: Callable[[LeaseKey], None]) -> None:
        """Have questions to this worker answered by ``answer``; see ``Peers``."""
        self._answer, self._on_lost = answer, lost

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        """Lease a key, unless a worker leases it already; see ``Peers``."""
        self._start()
        lease = Lease(self._store.name(key), f"{self.name}/{next(self._numbers)}")
        with self._lock:
            if key in self._held:
                return self.name
            self._pending.add(lease.token)
        try:
            holder = self._take(key, lease)
        except BaseException as error:
            if allow_offline and isinstance(error, PeersUnavailable):
                return self._enter(key, lease, provisional=True)
            with self._lock:
                self._pending.discard(lease.token)
                if isinstance(error, Uncertain) or not isinstance(error, PeersUnavailable):
                    self._stale[lease] = time.monotonic() + LATEST
            raise
        if holder is None:
            return self._enter(key, lease)
        with self._lock:
            self._pending.discard(lease.token)
        return holder

    def holder(self, key: LeaseKey) -> str | None:
        """The worker that leases a key; see ``Peers``."""
        self._start()
        token = self._store.find(self._store.name(key))
        return token and token.rpartition("/")[0]

    def others(self) -> list[str]:
        """The workers that are there; see ``Peers``."""
        self._start()
        return [name for name in self._store.members() if name != self.name]

    def free(self, keys: Iterable[LeaseKey]) -> None:
        """Lease these keys no more; see ``Peers``."""
        with self._lock:
            freed = {key: self._held.pop(key, None) for key in keys}
            self._forget_adoptions()
            leases = {lease for lease in freed.values() if lease}
            # What is being made now is freed after that, by the keeper.
            late = leases & self._making
            self._stale.update(dict.fromkeys(late, time.monotonic() + LATEST))
        self._release(leases - late)
        for key, lease in freed.items():
            if lease is None:
                self._free_leftover(key)

    def _free_leftover(self, key: LeaseKey) -> None:
        """Free what Redis may have of a key that this worker doesn't lease, and does not take."""
        name = self._store.name(key)
        if self._mailbox is None or self._closed:
            return
        with suppress(PeersUnavailable):
            token = self._store.find(name) or ""
            with self._lock:
                is_left = key not in self._held and token not in self._pending
            if is_left and token.rpartition("/")[0] == self.name:
                self._release({Lease(name, token)})

    def ask(self, holder: str, question: Message, seconds: float) -> Message:
        """Ask a worker, and wait for its answer; see ``Peers``."""
        return self._start().ask(holder, question, seconds)

    def open(self) -> None:
        """Begin to look at Redis and to listen; see ``Peers``."""
        self._start()

    def check(self, *, allow_offline: bool = False) -> None:
        """See that a key could be taken; see ``Peers``."""
        self._start()
        if not allow_offline:
            self._looked.wait(_FIRST_LOOK_SECONDS)
            self._store.check()

    def close(self) -> None:
        """Free all, and answer no more; see ``Peers``. Takes about two seconds at the most."""
        with self._lock:
            was_closed, self._closed = self._closed, True
            mailbox = self._mailbox
        if was_closed or mailbox is None:
            return
        self._redis.wake.set()
        self._keeper.join(1.0)
        with self._lock:
            leases = {*self._held.values(), *self._stale}
            self._held.clear()
        self._release(leases)
        self._store.dismiss(self.name)
        mailbox.close()
        self._redis.close()

    def _start(self) -> Mailbox:
        """See to it that the threads run, in this process."""
        with self._lock:
            if self._closed:
                raise PeersUnavailable("The server is shutting down; try again.", retry_after=1)
            if self._mailbox is None:
                self._mailbox = Mailbox(
                    self._redis, self.name, self._mailbox_of, self._reply, self._store.time
                )
                self._keeper = threading.Thread(
                    target=self._keep, name="chatproxy-peers-keeper", daemon=True
                )
                self._mailbox.open()
                self._keeper.start()
            return self._mailbox

    def _mailbox_of(self, worker: str) -> str:
        return f"{self._prefix}inbox:{worker}"

    def _reply(self, question: Message) -> Message:
        assert self._answer is not None, "serve comes first"
        return self._answer(question)

    def _take(self, key: LeaseKey, lease: Lease) -> str | None:
        instead = ""
        while token := self._store.take(lease, instead):
            worker = token.rpartition("/")[0]
            with self._lock:
                if worker != self.name or key in self._held or token in self._pending:
                    return worker
            instead = token  # of this worker, which does not hold it: it could not free it in time
        return None

    def _enter(self, key: LeaseKey, lease: Lease, *, provisional: bool = False) -> str | None:
        """Note what was taken, unless something has come between."""
        with self._lock:
            self._pending.discard(lease.token)
            closed, taken = self._closed, key in self._held
            if not closed and not taken:
                self._held[key] = lease
                if provisional:
                    self._provisional[key] = lease
                return None
        self._release({lease})
        if closed:
            raise PeersUnavailable("The server is shutting down; try again.", retry_after=1)
        return self.name

    def _release(self, leases: set[Lease]) -> None:
        left = self._store.free(list(leases))
        with self._lock:
            for lease in left:
                self._stale.setdefault(lease, 0.0)

    def _forget_adoptions(self) -> None:
        for key in [key for key in self._provisional if key not in self._held]:
            del self._provisional[key]

    def _keep(self) -> None:
        while not self._closed:
            self._redis.wake.clear()
            try:
                self._look_after_all()
                pause = self._tick
            except PeersUnavailable:
                self._due = 0.0
                pause = _AWAY_TICK
            except Exception:
                logger.exception("The leases in Redis could not be renewed")
                pause = _AWAY_TICK
            self._looked.set()
            self._redis.wake.wait(pause)

    def _look_after_all(self) -> None:
        memory = self._store.look()
        if memory.marker != self._known_epoch or time.monotonic() >= self._due:
            self._due = time.monotonic() + self._period
            self._store.enrol(self.name)
            self._renew()
            self._known_epoch = memory.marker
        self._redis.mend()
        if not memory.holders_first:
            self._claim_adopted()
        self._free_stale()

    def _free_stale(self) -> None:
        now = time.monotonic()
        with self._lock:
            leftovers = set(self._stale)
            # Something late may bring the others back: they are freed again.
            self._stale = {lease: end for lease, end in self._stale.items() if end > now}
        self._release(leftovers)

    def _renew(self) -> None:
        with self._lock:
            keys = {
                lease: key
                for key, lease in self._held.items()
                if self._provisional.get(key) is not lease
            }
        for lease, kept in self._store.renew(self.name, list(keys)):
            if not kept:
                self._lose(keys[lease], lease)

    @contextmanager
    def _make_held(self, leases: Sequence[Lease]) -> Iterator[list[Lease]]:
        """Make those in Redis that are held still; whoever frees one meanwhile leaves it to us."""
        with self._lock:
            held = set(self._held.values())
            self._making = {lease for lease in leases if lease in held}
            making = list(self._making)
        try:
            yield making
        finally:
            with self._lock:
                self._making = set()

    def _claim_adopted(self) -> None:
        with self._lock:
            adopted = list(self._provisional.items())
        for key, lease in adopted:
            with self._make_held([lease]) as held:
                if held:
                    self._claim(key, lease)

    def _claim(self, key: LeaseKey, lease: Lease) -> None:
        token = self._store.take(lease, unsettled=True)
        if token and token.rpartition("/")[0] == self.name:
            return  # something left over, which is freed soon
        with self._lock:
            if self._provisional.get(key) is lease:
                del self._provisional[key]
        if token:
            self._lose(key, lease)

    def _lose(self, key: LeaseKey, lease: Lease) -> None:
        with self._lock:
            if self._held.get(key) is not lease:
                return
            del self._held[key]
        try:
            if self._on_lost is not None:
                self._on_lost(key)
        except Exception:
            logger.exception("A key that another worker leases could not be given up")
