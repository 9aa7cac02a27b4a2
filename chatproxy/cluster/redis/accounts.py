"""Accounts in Redis: a hash for each, with what was drawn and an epoch, changed by one script.

Redis forgets an account at the time that it was made for. Rules:

* Nothing is sent twice. A script that was sent and not answered may have been run, or may still be;
  then what was drawn stays drawn. That is never too little.
* What could not be sent, because Redis was known to be away, is kept and sent when it is back.
* An account that Redis has lost is a new one when it is next drawn from, with an epoch of its own.
  What was drawn from the old one does not come back into the new one.

Lua counts exactly up to 2**53; budgets are smaller (``accounting.budgets``).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections import deque
from collections.abc import Callable

from ...answers.reservation import AccountKey, Draw
from ...errors import PeersUnavailable
from .client import RedisClient, Uncertain

#: Draws ARGV[2] from KEYS[1], or what is left of ARGV[3], if that is ARGV[1] at least. If it is not
#: there, and ARGV[5] is not empty, begins it with that and the epoch ARGV[6], until ARGV[4], in ms.
_DRAW = """
local drawn, epoch = unpack(redis.call('HMGET', KEYS[1], 'drawn', 'epoch'))
if not drawn then
  if ARGV[5] == '' then return {} end
  drawn, epoch = ARGV[5], ARGV[6]
  redis.call('HSET', KEYS[1], 'drawn', drawn, 'epoch', epoch)
  redis.call('PEXPIREAT', KEYS[1], ARGV[4])
end
local left = math.max(0, tonumber(ARGV[3]) - tonumber(drawn))
local amount = 0
if left >= tonumber(ARGV[1]) then amount = math.min(tonumber(ARGV[2]), left) end
redis.call('HINCRBY', KEYS[1], 'drawn', string.format('%.0f', amount))
return {amount, left - amount, epoch}
"""
#: Has ARGV[2] count in KEYS[1] in place of ARGV[1], which was drawn in the epoch ARGV[3].
_SETTLE = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return end
local change = tonumber(ARGV[2])
if epoch == ARGV[3] then change = change - tonumber(ARGV[1]) end
redis.call('HINCRBY', KEYS[1], 'drawn', string.format('%.0f', change))
"""


class RedisAccounts:
    """The accounts of one application; see ``Accounts``.

    :param prefix: how the names of its keys begin.
    :param open: sees to it that what could not be settled will be.
    """

    def __init__(self, redis: RedisClient, prefix: str, open: Callable[[], None]) -> None:
        self._redis = redis
        self._prefix = prefix
        self._open = open
        self._lock = threading.Lock()
        #: What could not be settled yet. No answer begins while Redis is away, so it is bounded.
        self._late: deque[tuple[str, Draw, int]] = deque()

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
        self._settle(self._name(account), draw, used)

    def settle_late(self) -> None:
        """Settle what could not be settled before. Never raises."""
        for _ in range(len(self._late)):
            with self._lock:
                late = self._late.popleft() if self._late else None
            if late is not None:
                self._settle(*late)

    def _settle(self, name: str, draw: Draw, used: int) -> None:
        try:
            self._redis.run(_SETTLE, [name], [draw.amount, used, draw.epoch])
        except PeersUnavailable as error:
            if not isinstance(error, Uncertain):
                with self._lock:
                    self._late.append((name, draw, used))

    def _name(self, account: AccountKey) -> str:
        text = json.dumps(list(account)).encode()
        return f"{self._prefix}account:{hashlib.blake2b(text, digest_size=20).hexdigest()}"
