"""The keeper: renews the leases that this worker holds in Redis, and restores those that are lost.

A worker may be cut off from Redis at any moment, and whatever it has sent may arrive much later or
not at all. So the worker has its own account of what it holds, and one thread, the keeper, that
brings Redis into line with it. It looks at Redis at least once a second, and

* renews what is held, six times in the time of a lease. What Redis has lost is made anew, unless
  another worker may have had it in the meantime;
* takes what was taken offline, while Redis was away;
* frees what could not be freed, or may have been brought back since.

A lease is, in this account,

* *pending* while a thread takes it;
* *held* from then on until it is freed or lost. It is *provisional* meanwhile if it was taken
  offline and has not been taken in Redis since, and *restoring* while the keeper makes it anew;
* *stale* if Redis may have it and should not, until nothing that is under way can bring it back.

Invariants:

* A key that Redis says is this worker's is pending or held; or it is stale, or left over from some
  failure, and is freed or taken over by whoever meets it.
* Whoever frees a lease that is being restored leaves it to the keeper, which frees it after that:
  Redis may do the two in any order.
* What another worker has by now, or may have had, is told by ``on_lost``, once, and only if it is
  held still.
* What Redis has lost, nobody else can have had until its lease would have been over, or while Redis
  is not settled.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from ...errors import PeersUnavailable
from ..peers import LeaseKey
from .client import RedisClient, Uncertain
from .leases import LATEST, Lease, LeaseStore, worker_of

logger = logging.getLogger("chatproxy")

#: Seconds between two looks at Redis, at most, and while it is away.
_TICK = 1.0
_AWAY_TICK = 0.5
#: Seconds of the settling time for a worker that is slow.
_SLACK = 1.0


def settling_seconds(lease: float, slowest: float) -> float:
    """The seconds in which every worker that is not cut off has renewed what it holds.

    That is as long as a keeper may take to notice that Redis has lost its memory, whether it sleeps
    or is in the midst of an attempt that fails, and to renew.

    :param lease: the seconds of a lease.
    :param slowest: the seconds that one attempt may take.
    """
    return max(_tick(lease), slowest + _AWAY_TICK) + _SLACK


def _tick(lease: float) -> float:
    return min(_TICK, lease / 6)


class LeaseKeeper:
    """The leases of one worker.

    :param worker: its name.
    :param lease: seconds after which the leases of a worker that died are free.
    :param on_lost: called with a key that was held here, and that another worker holds by now or
        may have held since.
    :param on_look: called each time that Redis has been looked at, and is there.
    """

    def __init__(
        self,
        redis: RedisClient,
        store: LeaseStore,
        worker: str,
        lease: float,
        on_lost: Callable[[LeaseKey], None],
        *,
        on_look: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._store = store
        self._worker = worker
        self._lease = lease
        self._period = lease / 6
        self._tick = _tick(lease)
        self._on_lost = on_lost
        self._on_look = on_look
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        self._held: dict[LeaseKey, Lease] = {}
        #: Those of them that were taken offline.
        self._provisional: dict[LeaseKey, Lease] = {}
        #: The tokens with which keys are being taken now.
        self._pending: set[str] = set()
        #: What the keeper may just be making in Redis.
        self._restoring: set[Lease] = set()
        #: What Redis may have and should not; and until when, by the monotonic clock, something
        #: that is under way may bring it back.
        self._stale: dict[Lease, float] = {}
        #: Set once Redis has been looked at, or tried to.
        self.looked = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="chatproxy-peers-keeper", daemon=True
        )
        # The thread's own.
        self._known_epoch = b""
        self._due = 0.0
        #: Until when, by Redis's clock, nobody else can have had what is held: a lease after the
        #: last look with which all was renewed.
        self._kept_until = 0.0

    def open(self) -> None:
        """Begin to look at Redis."""
        self._thread.start()

    def close(self) -> None:
        """Free all leases. Takes about two seconds at most."""
        with self._lock:
            self._closed = True
        self._redis.wakeup.set()
        self._thread.join(1.0)
        with self._lock:
            leases = {*self._held.values(), *self._stale}
            self._held.clear()
        self._release(leases)

    def abandon(self) -> None:
        """Leave all leases as they are: this process was forked from the one that holds them."""
        self._closed = True

    # ---- for any thread -------------------------------------------------------------------------

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        """Take a key, unless a worker holds it already; see ``Peers``."""
        lease = Lease(self._store.name(key), f"{self._worker}/{next(self._numbers)}")
        with self._lock:
            if key in self._held:
                return self._worker
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

    def _take(self, key: LeaseKey, lease: Lease) -> str | None:
        instead = ""
        while token := self._store.take(lease, instead):
            worker = worker_of(token)
            with self._lock:
                if worker != self._worker or key in self._held or token in self._pending:
                    return worker
            instead = token  # left over: this worker could not free it in time
        return None

    def _enter(self, key: LeaseKey, lease: Lease, *, provisional: bool = False) -> str | None:
        """Hold what was taken, unless something has come between."""
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
            raise shutting_down()
        return self._worker

    def free(self, keys: Iterable[LeaseKey]) -> None:
        """Hold these keys no longer; see ``Peers``."""
        freed: dict[LeaseKey, Lease | None] = {}
        with self._lock:
            for key in keys:
                freed[key] = self._held.pop(key, None)
                self._provisional.pop(key, None)
            leases = {lease for lease in freed.values() if lease}
            left_to_the_keeper = leases & self._restoring
            end = time.monotonic() + LATEST
            self._stale.update(dict.fromkeys(left_to_the_keeper, end))
        self._release(leases - left_to_the_keeper)
        for key, lease in freed.items():
            if lease is None:
                self._free_leftover(key)

    def _free_leftover(self, key: LeaseKey) -> None:
        """Free what Redis may have of a key that this worker neither holds nor takes."""
        if self._closed:
            return
        name = self._store.name(key)
        with suppress(PeersUnavailable):
            token = self._store.find(name) or ""
            with self._lock:
                is_left = key not in self._held and token not in self._pending
            if is_left and worker_of(token) == self._worker:
                self._release({Lease(name, token)})

    def _release(self, leases: set[Lease]) -> None:
        left = self._store.free(list(leases))
        with self._lock:
            for lease in left:
                self._stale.setdefault(lease, 0.0)

    # ---- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            self._redis.wakeup.clear()
            try:
                self._look()
                pause = self._tick
            except PeersUnavailable:
                self._due = 0.0
                pause = _AWAY_TICK
            except Exception:
                logger.exception("The leases in Redis could not be renewed")
                pause = _AWAY_TICK
            self.looked.set()
            self._redis.wakeup.wait(pause)

    def _look(self) -> None:
        epoch = self._store.look()
        if epoch.name != self._known_epoch or time.monotonic() >= self._due:
            self._due = time.monotonic() + self._period
            self._store.register(self._worker)
            self._renew()
            self._known_epoch, self._kept_until = epoch.name, epoch.now + self._lease
        self._redis.mend()
        if not epoch.holders_first:
            self._take_provisional()
        self._free_stale()
        self._on_look()

    def _renew(self) -> None:
        with self._lock:
            keys = {
                lease: key
                for key, lease in self._held.items()
                if self._provisional.get(key) is not lease
            }
        for lease, kept in self._store.renew(self._worker, list(keys), self._restore_safely):
            if not kept:
                self._lose(keys[lease], lease)

    def _restore_safely(self, leases: Sequence[Lease]) -> AbstractContextManager[Sequence[Lease]]:
        """Restore those that are held still, unless another worker may have had them."""
        is_safe = self._store.is_settling or (self._store.time() or 0.0) < self._kept_until
        return self._restore(leases if is_safe else ())

    @contextmanager
    def _restore(self, leases: Sequence[Lease]) -> Iterator[list[Lease]]:
        """Restore those that are held still; whoever frees one meanwhile leaves it to us."""
        with self._lock:
            held = set(self._held.values())
            self._restoring = {lease for lease in leases if lease in held}
            restoring = list(self._restoring)
        try:
            yield restoring
        finally:
            with self._lock:
                self._restoring = set()

    def _take_provisional(self) -> None:
        with self._lock:
            provisional = list(self._provisional.items())
        for key, lease in provisional:
            with self._restore([lease]) as held:
                if held:
                    self._confirm(key, lease)

    def _confirm(self, key: LeaseKey, lease: Lease) -> None:
        token = self._store.take(lease, unsettled=True)
        if token and worker_of(token) == self._worker:
            return  # left over, and freed soon
        with self._lock:
            if self._provisional.get(key) is lease:
                del self._provisional[key]
        if token:
            self._lose(key, lease)

    def _free_stale(self) -> None:
        now = time.monotonic()
        with self._lock:
            stale = set(self._stale)
            # Something late may bring the others back: they are freed again.
            self._stale = {lease: end for lease, end in self._stale.items() if end > now}
        self._release(stale)

    def _lose(self, key: LeaseKey, lease: Lease) -> None:
        with self._lock:
            if self._held.get(key) is not lease:
                return
            del self._held[key]
        try:
            self._on_lost(key)
        except Exception:
            logger.exception("A session whose lease another worker has could not be given up")


def shutting_down() -> PeersUnavailable:
    """The error to raise once this worker has left its peers."""
    return PeersUnavailable("The server is shutting down; try again.", retry_after=1)
