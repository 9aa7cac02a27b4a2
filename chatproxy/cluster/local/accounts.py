"""Accounts on one host: a small file in the run directory for each, changed under its lock.

    accounts/<until>/<digest of scope and key>      ``<epoch> <drawn>``, of a fixed length

Rules:

* A file is changed by one ``pwrite`` into the page cache, while its lock (flock(2)) is held. So a
  worker may be killed at any moment, and a change takes some microseconds.
* A file that was removed, alone or with the directory, is a new account when it is next drawn from,
  with an epoch of its own. What was drawn from the old one does not come back into the new one.
* The folder of a time that is over is removed by whoever begins a new account.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ...answers.reservation import AccountKey, Draw
from ...errors import PeersUnavailable
from .run_dir import LOCK_SECONDS, unusable

_FOLDER = "accounts"
_EPOCH_BYTES = 6
#: Epoch and number; the number has a sign.
_FORM = f"{{:{2 * _EPOCH_BYTES}}} {{:+020d}}\n"
_LENGTH = len(_FORM.format("", 0))
#: Seconds between two tries at a lock.
_TRY_SECONDS = 0.0005
#: How many files are removed between two turns of the event loop.
_AT_ONCE = 64


class LocalAccounts:
    """The accounts of one application; see ``Accounts``.

    :param directory: returns the path of the run directory, which is there.
    :param scope: the name of the application.
    """

    def __init__(self, directory: Callable[[], str], scope: str) -> None:
        self._directory = directory
        self._scope = scope

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
        folder = f"{self._directory()}/{_FOLDER}/{int(until)}"
        try:
            if initial is not None and not os.path.isdir(folder):
                _remove_old(os.path.dirname(folder))
                os.makedirs(folder, mode=0o700, exist_ok=True)
            with self._locked(folder, account, makes=initial is not None) as file:
                epoch, drawn = _read(file) or (secrets.token_hex(_EPOCH_BYTES), initial)
                if drawn is None:
                    return None
                left = max(0, most - drawn)
                amount = min(wanted, left) if left >= least else 0
                _write(file, epoch, drawn + amount)
                return Draw(amount, left - amount, f"{int(until)} {epoch}")
        except FileNotFoundError:
            if initial is None:
                return None
            raise PeersUnavailable(
                "The run directory was removed; try again.", retry_after=1
            ) from None
        except OSError as error:
            raise unusable(error) from None

    def settle(self, account: AccountKey, draw: Draw, used: int) -> None:
        """See ``Accounts``."""
        until, _, epoch = draw.epoch.partition(" ")
        with suppress(OSError, PeersUnavailable):
            folder = f"{self._directory()}/{_FOLDER}/{until}"
            with self._locked(folder, account, makes=False) as file:
                if (found := _read(file)) is not None:
                    drawn = draw.amount if found[0] == epoch else 0
                    _write(file, found[0], found[1] + used - drawn)

    @contextmanager
    def _locked(self, folder: str, account: AccountKey, *, makes: bool) -> Iterator[int]:
        """The file of an account, locked.

        :raises FileNotFoundError: if it is not there.
        :raises PeersUnavailable: if others have the lock for too long.
        """
        text = json.dumps([self._scope, *account]).encode()
        path = f"{folder}/{hashlib.blake2b(text, digest_size=16).hexdigest()}"
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if makes else 0)
        end = time.monotonic() + LOCK_SECONDS
        while True:
            file = os.open(path, flags, 0o600)
            try:
                if _lock(file):
                    yield file
                    return
            finally:
                # By name: a process that was forked meanwhile has this descriptor too.
                fcntl.flock(file, fcntl.LOCK_UN)
                os.close(file)
            if time.monotonic() > end:
                raise PeersUnavailable("A budget is locked; try again.", retry_after=1)
            time.sleep(_TRY_SECONDS)


def _lock(file: int) -> bool:
    """Lock a file; False if somebody else has locked it, or has removed it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0


def _read(file: int) -> tuple[str, int] | None:
    """The epoch and the number; None if nothing has been written yet."""
    text = os.pread(file, _LENGTH, 0)
    if len(text) != _LENGTH:
        return None
    epoch, _, number = text.decode("ascii").partition(" ")
    return epoch, int(number)


def _write(file: int, epoch: str, number: int) -> None:
    os.pwrite(file, _FORM.format(epoch, number).encode("ascii"), 0)


def _remove_old(folder: str) -> None:
    """Remove the accounts whose time is over."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name.isdecimal() and int(name) < time.time():
                with suppress(OSError):  # another worker is at it
                    for number, entry in enumerate(os.listdir(f"{folder}/{name}"), 1):
                        os.unlink(f"{folder}/{name}/{entry}")
                        if number % _AT_ONCE == 0:
                            time.sleep(0)
                    os.rmdir(f"{folder}/{name}")
