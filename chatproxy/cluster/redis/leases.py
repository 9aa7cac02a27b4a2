"""The table in Redis: one name for each key, whose value is the token of its holder.

A *token* is a worker and a number that no other taking of any key has had. A script that could make
a key carries the time, by Redis's clock, after which it does nothing. So whatever arrives late, or
twice, does no harm, and a key that was freed stays free: a renewal extends what is there, and makes
anew only what its worker says, at that moment, that it leases.

Redis may lose its memory: a restart, a restored snapshot, a failover. Until each holder has renewed
its leases, an id that is held looks free; a Stop for it would be told that there is no such
session. So a *marker* in Redis names the server's run and the time since when this memory is there,
and for a settling time of two to three seconds nothing can be taken. That goes for a Redis that is
quite new to the application too: one that is empty because nobody has used it, and one that was
emptied a moment ago (a flush, a replica that was promoted before it had anything), look the same. A
worker that can't reach Redis for the whole of that time, or for its lease, may lose its keys.

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
from .client import RedisClient, unreachable

#: Seconds after which a script that could make a key does nothing any more: longer than whoever has
#: sent it waits for its turn and its answer.
LATEST = 5.0
#: Keys in one script. Redis does nothing else meanwhile.
_BATCH = 200

#: The milliseconds until the memory is settled, by the marker KEYS[1] and the time ARGV[1]. A
#: marker is forgotten a week after the last worker's look.
_MARKER = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known, since = string.match(redis.call('GET', KEYS[1]) or '', '^(%w*) (%d+)$')
local same = known == run and tonumber(since) <= now
if not same then since = string.format('%.0f', now) end
local marker = run .. ' ' .. since
if not same or ARGV[2] == 'keep' then redis.call('SET', KEYS[1], marker, 'EX', 604800) end
local left = math.max(0, tonumber(since) + ARGV[1] - now)
"""
_LOOK = f"{_MARKER} return {{marker, left, string.format('%.0f', now)}}"
#: Takes KEYS[2] with the token ARGV[2] for ARGV[3] ms, also from the token ARGV[4]; until ARGV[5].
_TAKE = f"""{_MARKER}
if now > tonumber(ARGV[5]) then return {{1, ''}} end
if left > 0 then return {{left, ''}} end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] and holder ~= ARGV[4] then return {{0, holder}} end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {{0, ''}}
"""
#: Extends the leases of the tokens ARGV[4], … to ARGV[1] ms. Until ARGV[3] it also makes those that
#: are missing. Tells which are held by another than the worker whose tokens begin with ARGV[2], and
#: which are missing still. Of its own tokens, the latest is the right one.
_RENEW = """
local time = redis.call('TIME')
local makes = time[1] * 1000 + math.floor(time[2] / 1000) <= tonumber(ARGV[3])
local lost, missing = {}, {}
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
return {lost, missing}
"""
_FREE = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[i] then redis.call('DEL', key) end
end
"""
#: Finds the token with which KEYS[2] is held.
_FIND = f"{_MARKER} return {{left, redis.call('GET', KEYS[2]) or ''}}"
#: Enrols the worker ARGV[1] for ARGV[2] ms; without it, nobody. Tells who is enrolled.
_ENROL = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
_DISMISS = "redis.call('ZREM', KEYS[1], ARGV[1])"


class Lease(NamedTuple):
    """A key, by its name in Redis, and the token with which a worker leases it."""

    name: str
    token: str


class Epoch(NamedTuple):
    """What Redis remembers.

    ``marker`` tells one memory from another. ``holders_first`` says that it is quite new: those who
    had a key from an earlier one should have it in this one too.
    """

    marker: bytes
    holders_first: bool


class LeaseStore:
    """The table of one application.

    :param lease: seconds for which a key is held without a renewal.
    :param settling: seconds for which nothing is taken after a loss of memory.
    :param making: tells which of some missing keys may be made anew, and when that is over.
    """

    def __init__(
        self,
        redis: RedisClient,
        prefix: str,
        lease: float,
        settling: float,
        making: Callable[[Sequence[Lease]], AbstractContextManager[Sequence[Lease]]] = nullcontext,
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._marker = f"{prefix}memory"
        self._members = f"{prefix}workers"
        self._lease = int(lease * 1000)
        self._settling = int(settling * 1000)
        self._making = making
        self._clock_offset: float | None = None
        #: The time, by the monotonic clock, from which Redis can be trusted.
        self._settled_at: float | None = None
        #: Whether this worker has known a memory that could be.
        self._was_settled = False

    def name(self, key: LeaseKey) -> str:
        """The name of a key in Redis, of a fixed length whatever the key leases."""
        text = json.dumps(list(key)).encode()
        return f"{self._prefix}key:{hashlib.blake2b(text, digest_size=20).hexdigest()}"

    def time(self) -> float | None:
        """The seconds of Redis's clock; None before the first look."""
        offset = self._clock_offset
        return None if offset is None else time.monotonic() + offset

    def look(self) -> Epoch:
        """Look at Redis, whether or not it seems to be away.

        :raises PeersUnavailable: where it is.
        """
        marker, left, now = self._redis.reach(_LOOK, [self._marker], [self._settling, "keep"])
        here = time.monotonic()
        self._clock_offset = int(now) / 1000 - here
        self._settled_at = here + left / 1000
        return Epoch(marker, left > self._settling / 2)

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

        :param unsettled: even where Redis is not settled.
        :returns: None, or the token with which it is held.
        :raises PeersUnavailable: where Redis is away, or not settled.
        """
        settling = 0 if unsettled else self._settling
        arguments = [settling, lease.token, self._lease, instead, self._until()]
        left, token = self._redis.run(_TAKE, [self._marker, lease.name], arguments)
        self._check_settled(left)
        return str(token, "utf-8", "replace") or None

    def _check_settled(self, left: int) -> None:
        if left <= 0:
            self._was_settled = True
            return
        what = (
            "What the workers share has just come back"
            if self._was_settled
            else "Redis is new to this application, or has just been emptied"
        )
        raise PeersUnavailable(f"{what}; try again.", retry_after=math.ceil(left / 1000))

    def find(self, name: str) -> str | None:
        """The token with which a key is held, if it is.

        :raises PeersUnavailable: where Redis is away, or not settled.
        """
        left, token = self._redis.run(_FIND, [self._marker, name], [self._settling, ""])
        self._check_settled(left)
        return str(token, "utf-8", "replace") or None

    def enrol(self, worker: str) -> None:
        """Say that a worker is there, for as long as a lease; whether or not Redis seems away."""
        self._redis.reach(_ENROL, [self._members], [worker, self._lease])

    def members(self) -> list[str]:
        """The workers that are there.

        :raises PeersUnavailable: where Redis is away.
        """
        found = self._redis.run(_ENROL, [self._members], ["", 0])
        return [str(name, "utf-8", "replace") for name in found]

    def dismiss(self, worker: str) -> None:
        """Say that a worker is there no more."""
        with suppress(PeersUnavailable):
            self._redis.run(_DISMISS, [self._members], [worker])

    def renew(self, worker: str, leases: Sequence[Lease]) -> Iterator[tuple[Lease, bool]]:
        """Renew leases, whether or not Redis seems to be away; with whether each was kept.

        :raises PeersUnavailable: where it is.
        """
        for batch in _batches(leases):
            lost, missing = self._renew(worker, batch, "0")
            if missing:
                with self._making(missing) as held:
                    lost += self._renew(worker, held, self._until())[0]
            yield from ((lease, lease not in lost) for lease in batch)

    def _renew(
        self, worker: str, leases: Sequence[Lease], until: str
    ) -> tuple[list[Lease], list[Lease]]:
        """Those that others lease, and those that are missing."""
        arguments = [self._lease, f"{worker}/", until, *(lease.token for lease in leases)]
        found = self._redis.reach(_RENEW, [lease.name for lease in leases], arguments)
        lost, missing = ([leases[number - 1] for number in numbers] for numbers in found)
        return lost, missing

    def free(self, leases: Sequence[Lease]) -> list[Lease]:
        """Free keys where they are still held so; tell which could not be."""
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
