"""Accounts in Redis: a hash for each, with what was drawn and an epoch, changed by one script.

Redis forgets an account at the time that it was made for. Rules:

* Nothing is sent twice. A script that was sent and not answered may have been run, or may still be;
  then what was drawn stays drawn. That is never too little.
* What could not be sent, because Redis was known to be away, is kept and sent when it is back.
* An account that Redis has lost is a new one when it is next drawn from, with an epoch of its own.
  What was drawn from the old one does not come back into the new one.
* What is settled of a lost account counts in the new one, unless that began with it already. If
  there are records, it began with what had ended ``RECORDED_SECONDS`` before. So what is settled
  before there is a new one is settled again, until the records have it.

Lua counts exactly up to 2**53; budgets are smaller (``accounting.budgets``).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ... import forks
from ...answers.reservation import AccountKey, Draw
from ...errors import PeersUnavailable
from .client import NOW, RedisClient, Uncertain

#: Seconds after which the records have an answer that has ended, unless they are away.
RECORDED_SECONDS = 1.0

#: Draws ARGV[2] from KEYS[1], or what is left of ARGV[3], if that is ARGV[1] at least. If it is not
#: there, and ARGV[5] is not empty, begins it with that and the epoch ARGV[6], until ARGV[4], in ms.
_DRAW = f"""{NOW}
local drawn, epoch = unpack(redis.call('HMGET', KEYS[1], 'drawn', 'epoch'))
if not drawn then
  if ARGV[5] == '' then return {{}} end
  drawn, epoch = ARGV[5], ARGV[6]
  redis.call('HSET', KEYS[1], 'drawn', drawn, 'epoch', epoch, 'begun', string.format('%.0f', now))
  redis.call('PEXPIREAT', KEYS[1], ARGV[4])
end
local left = math.max(0, tonumber(ARGV[3]) - tonumber(drawn))
local amount = 0
if left >= tonumber(ARGV[1]) then amount = math.min(tonumber(ARGV[2]), left) end
redis.call('HINCRBY', KEYS[1], 'drawn', string.format('%.0f', amount))
return {{amount, left - amount, epoch}}
"""
#: Has ARGV[2] count in KEYS[1] in place of ARGV[1], which was drawn in the epoch ARGV[3]. One of
#: another epoch that began in the last ARGV[4] ms, if that is not empty, began with it already.
#: Tells whether the account is there.
_SETTLE = f"""{NOW}
local epoch, begun = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'begun'))
if not epoch then return 0 end
local change = tonumber(ARGV[2])
if epoch == ARGV[3] then
  change = change - tonumber(ARGV[1])
elseif begun and ARGV[4] ~= '' and now - ARGV[4] < tonumber(begun) then
  return 1
end
redis.call('HINCRBY', KEYS[1], 'drawn', string.format('%.0f', change))
return 1
"""


class _Settlement(NamedTuple):
    """What is to be settled of an account, and when that was known, by the monotonic clock."""

    name: str
    draw: Draw
    used: int
    ended: float


class RedisAccounts:
    """The accounts of one application; see ``Accounts``.

    :param prefix: how the names of its keys begin.
    :param open: sees to it that what could not be settled will be.
    :param has_records: whether an account begins with what records say.
    """

    def __init__(
        self,
        redis: RedisClient,
        prefix: str,
        open: Callable[[], None],
        *,
        has_records: bool = False,
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._open = open
        self._has_records = has_records
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        #: What could not be settled yet. No answer begins while Redis is away, so it is bounded.
        self._late: deque[_Settlement] = deque()

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
        """See ``Accounts``."""
        self._open()
        begins = "" if initial is None else initial
        arguments = [least, wanted, most, int(until * 1000), begins, secrets.token_hex(6)]
        found = self._redis.run(_DRAW, [self._name(account)], arguments)
        if not found:
            return None
        amount, left, epoch = found
        return Draw(int(amount), int(left), str(epoch, "ascii"))

    def settle(self, account: AccountKey, draw: Draw, used: int) -> None:
        """See ``Accounts``."""
        self._settle(_Settlement(self._name(account), draw, used, time.monotonic()))

    def settle_late(self) -> None:
        """Settle what could not be settled before. Never raises."""
        for _ in range(len(self._late)):
            with self._lock:
                late = self._late.popleft() if self._late else None
            if late is not None:
                self._settle(late)

    def _settle(self, it: _Settlement) -> None:
        recorded_for = time.monotonic() - it.ended - RECORDED_SECONDS
        arguments: list[object] = [it.draw.amount, it.used, it.draw.epoch]
        arguments.append(int(recorded_for * 1000) if self._has_records else "")
        try:
            is_there = self._redis.run(_SETTLE, [it.name], arguments)
            is_over = is_there or not self._has_records or recorded_for > 0
        except PeersUnavailable as error:
            is_over = isinstance(error, Uncertain)
        if not is_over:
            with self._lock:
                self._late.append(it)

    def _name(self, account: AccountKey) -> str:
        text = json.dumps(list(account)).encode()
        return f"{self._prefix}account:{hashlib.blake2b(text, digest_size=20).hexdigest()}"
