"""The leases in Redis: a name for each key, whose value is the token of its holder.

A *token* is a worker's name and a number that no other attempt at any key has had. Each operation
is one script, which Redis runs on its own.

**What arrives late, or twice, does no harm.** A network may deliver a script long after its sender
has given up. So every script that could make a key has a time, by Redis's clock, after which it
does nothing; and a key that was freed stays free. A renewal only extends what is there. It makes
anew only what its worker says, at that moment, that it holds.

**Redis may lose its memory**: by a restart, a restored snapshot, a failover. Until each holder has
renewed its leases, an id that is held looks free, and a Stop for it would be told that there is no
such session. So each memory is an *epoch*: a name in Redis has the server's run and the time since
when this memory is there. If it is missing, or of another run, a new epoch begins; and for a
settling time of two to three seconds after that, no key can be taken. This includes a Redis that
is new to the application: one that is empty because nobody has used it looks the same as one that
was emptied a moment ago (a flush, a replica that was promoted before it had anything). A worker
that can't reach Redis for all of that time may lose its keys.

**An outage of Redis may outlast the leases.** So a memory that no worker has looked at for a while
is over as well: it ends before any lease does. A worker that alone is cut off for longer than its
lease loses its keys, even those that nobody has: another worker may have had one in the meantime,
and have told a Stop that there is no such session.

Redis must keep what has not expired (``noeviction``), and allow scripts, INFO and TIME.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple

from ...errors import PeersUnavailable
from ..peers import LeaseKey
from .client import NOW, RedisClient, unreachable

#: Seconds after which a script that could make a key does nothing: longer than its sender waits for
#: its turn and for the result.
LATEST = 5.0
#: Keys in one script. Redis does nothing else meanwhile.
_BATCH = 200

#: Finds the epoch, of which KEYS[1] is the name, and how many of its ARGV[1] ms of settling are
#: left. Redis forgets it ARGV[2] ms after the last worker's look.
_EPOCH = f"""{NOW}
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local known, since = string.match(redis.call('GET', KEYS[1]) or '', '^(%w*) (%d+)$')
local same = known == run and tonumber(since) <= now
if not same then since = string.format('%.0f', now) end
local epoch = run .. ' ' .. since
if not same then redis.call('SET', KEYS[1], epoch, 'PX', ARGV[2]) end
local left = math.max(0, tonumber(since) + ARGV[1] - now)
"""
_LOOK = f"""{_EPOCH}
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {{epoch, left, string.format('%.0f', now)}}
"""
#: Takes KEYS[2] with the token ARGV[3] for ARGV[4] ms, also from the token ARGV[5]; until ARGV[6].
_TAKE = f"""{_EPOCH}
if now > tonumber(ARGV[6]) then return {{1, ''}} end
if left > 0 then return {{left, ''}} end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[3] and holder ~= ARGV[5] then return {{0, holder}} end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return {{0, ''}}
"""
#: Extends the leases of the tokens ARGV[4], … to ARGV[1] ms. Until ARGV[3] it also makes those that
#: are missing. Tells which are held by another than the worker whose tokens begin with ARGV[2], and
#: which are still missing. Of its own tokens, the latest is the right one.
_RENEW = f"""{NOW}
local makes = now <= tonumber(ARGV[3])
local lost, missing = {{}}, {{}}
local function number(token) return tonumber(string.sub(token, #ARGV[2] + 1)) end
for i, key in ipairs(KEYS) do
  local holder, token = redis.call('GET', key), ARGV[i + 3]
  if holder and string.sub(holder, 1, #ARGV[2]) ~= ARGV[2] then
    lost[#lost + 1] = i
  elseif not holder and not makes then
    missing[#missing + 1] = i
  elseif not holder or number(holder) <= number(token) then
    redis.call('SET', key, token, 'PX', ARGV[1])
  end
end
return {{lost, missing}}
"""
_FREE = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[i] then redis.call('DEL', key) end
end
"""
#: Finds the token with which KEYS[2] is held.
_FIND = f"{_EPOCH} return {{left, redis.call('GET', KEYS[2]) or ''}}"
#: Registers the worker ARGV[1] for ARGV[2] ms; nobody if that is empty. Tells who is registered.
_REGISTER = f"""{NOW}
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
_UNREGISTER = "redis.call('ZREM', KEYS[1], ARGV[1])"


class Lease(NamedTuple):
    """A key, by its name in Redis, and the token with which a worker holds it."""

    name: str
    token: str


Restore = Callable[[Sequence[Lease]], AbstractContextManager[Sequence[Lease]]]


class Epoch(NamedTuple):
    """A memory of Redis.

    ``name`` tells one from another; ``now`` is when it was looked at, in seconds of Redis's clock.
    ``holders_first`` says that it is quite new: those who held a key in an earlier one should have
    it in this one too.
    """

    name: bytes
    now: float
    holders_first: bool


class LeaseStore:
    """The leases of one application.

    :param lease: seconds for which a key is held without a renewal.
    :param settling: seconds for which nothing is taken after Redis has lost its memory.
    """

    def __init__(self, redis: RedisClient, prefix: str, lease: float, settling: float) -> None:
        self._redis = redis
        self._prefix = prefix
        self._epoch = f"{prefix}memory"
        self._workers = f"{prefix}workers"
        self._lease_ms = int(lease * 1000)
        # Keepers renew six times in a lease. So even the last look before an outage finds as much
        # left of every lease, or more.
        self._memory_ms = self._lease_ms * 2 // 3
        self._settling_ms = int(settling * 1000)
        self._clock_offset: float | None = None
        #: The time, by the monotonic clock, from which Redis can be trusted.
        self._settled_at: float | None = None
        #: Whether this worker has known an epoch that was settled.
        self._was_settled = False

    def name(self, key: LeaseKey) -> str:
        """The name of a key in Redis, of a fixed length whatever the key is."""
        text = json.dumps(list(key)).encode()
        return f"{self._prefix}key:{hashlib.blake2b(text, digest_size=20).hexdigest()}"

    def time(self) -> float | None:
        """The seconds of Redis's clock; None before the first look."""
        offset = self._clock_offset
        return None if offset is None else time.monotonic() + offset

    def look(self) -> Epoch:
        """Look at Redis, even if it seems to be away.

        :raises PeersUnavailable: if it is.
        """
        epoch, left, ms = self._redis.reach(_LOOK, [self._epoch], self._times())
        here, now = time.monotonic(), int(ms) / 1000
        self._clock_offset = now - here
        self._settled_at = here + left / 1000
        return Epoch(epoch, now, left > self._settling_ms / 2)

    @property
    def is_settling(self) -> bool:
        """Whether, as of the last look, nobody can have taken a key in this epoch."""
        return self._settled_at is not None and time.monotonic() < self._settled_at

    def _times(self, *, unsettled: bool = False) -> list[int]:
        return [0 if unsettled else self._settling_ms, self._memory_ms]

    def check(self) -> None:
        """See that keys could be taken now.

        :raises PeersUnavailable: if there has been no look, or Redis is away or not settled.
        """
        if self._settled_at is None:
            raise unreachable()
        self.find(self.name(("check",)))

    def _until(self) -> str:
        """The time by Redis's clock, in milliseconds, until which a script may make a key."""
        now = self.time()
        return "9e15" if now is None else f"{(now + LATEST) * 1000:.0f}"

    def take(self, lease: Lease, instead: str = "", *, unsettled: bool = False) -> str | None:
        """Take a key that is free, or is held with the token ``instead``.

        :param unsettled: even if Redis is not settled.
        :returns: None, or the token with which it is held.
        :raises PeersUnavailable: if Redis is away, or not settled.
        """
        times = self._times(unsettled=unsettled)
        arguments = [*times, lease.token, self._lease_ms, instead, self._until()]
        left, token = self._redis.run(_TAKE, [self._epoch, lease.name], arguments)
        self._check_settled(left)
        return str(token, "utf-8", "replace") or None

    def _check_settled(self, left: int) -> None:
        if left <= 0:
            self._was_settled = True
            return
        what = (
            "What the workers share has just come back"
            if self._was_settled
            else "Redis is new to this application, was not used for a while, or was just emptied"
        )
        raise PeersUnavailable(f"{what}; try again.", retry_after=math.ceil(left / 1000))

    def find(self, name: str) -> str | None:
        """The token with which a key is held, if it is.

        :raises PeersUnavailable: if Redis is away, or not settled.
        """
        left, token = self._redis.run(_FIND, [self._epoch, name], self._times())
        self._check_settled(left)
        return str(token, "utf-8", "replace") or None

    def register(self, worker: str) -> None:
        """Say that a worker is there, for as long as a lease. Even if Redis seems to be away."""
        self._redis.reach(_REGISTER, [self._workers], [worker, self._lease_ms])

    def unregister(self, worker: str) -> None:
        """Say that a worker is there no longer."""
        with suppress(PeersUnavailable):
            self._redis.run(_UNREGISTER, [self._workers], [worker])

    def workers(self) -> list[str]:
        """The names of the workers that are there.

        :raises PeersUnavailable: if Redis is away.
        """
        found = self._redis.run(_REGISTER, [self._workers], ["", 0])
        return [str(name, "utf-8", "replace") for name in found]

    def renew(
        self, worker: str, leases: Sequence[Lease], restore: Restore = nullcontext
    ) -> Iterator[tuple[Lease, bool]]:
        """Renew leases, even if Redis seems to be away.

        :param restore: given those that are missing, tells which of them may be made anew, and is
            left when that is over. The others are not kept.
        :returns: each with whether it was kept.
        :raises PeersUnavailable: if Redis is away.
        """
        for batch in _batches(leases):
            lost, missing = self._renew(worker, batch, "0")
            if missing:
                with restore(missing) as held:
                    lost += self._renew(worker, held, self._until())[0]
                lost += [lease for lease in missing if lease not in held]
            yield from ((lease, lease not in lost) for lease in batch)

    def _renew(
        self, worker: str, leases: Sequence[Lease], until: str
    ) -> tuple[list[Lease], list[Lease]]:
        """Those that others hold, and those that are missing."""
        arguments = [self._lease_ms, f"{worker}/", until, *(lease.token for lease in leases)]
        found = self._redis.reach(_RENEW, [lease.name for lease in leases], arguments)
        lost, missing = ([leases[number - 1] for number in numbers] for numbers in found)
        return lost, missing

    def free(self, leases: Sequence[Lease]) -> list[Lease]:
        """Free the keys that are still held so; return those that could not be freed."""
        freed = 0
        try:
            for batch in _batches(leases):
                names, tokens = zip(*batch, strict=True)
                self._redis.run(_FREE, list(names), list(tokens))
                freed += len(batch)
        except PeersUnavailable:
            pass
        return list(leases[freed:])


def _batches(leases: Sequence[Lease]) -> Iterator[Sequence[Lease]]:
    return (leases[start : start + _BATCH] for start in range(0, len(leases), _BATCH))


def worker_of(token: str) -> str:
    """The name of the worker that a token is of."""
    return token.rpartition("/")[0]
