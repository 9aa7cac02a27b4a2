"""The workers of one host: a directory in which each has a socket, and each key is a link to one.

A key is held by whoever made the symbolic link of its name, which the system lets only one do. The
link leads to the holder's socket, at which it can be asked. A worker that has died leaves a socket
behind which nobody is; whoever meets it removes it with all that leads there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from ..errors import PeersUnavailable
from . import Key, Message
from .door import Door, Gone

#: How often a key is tried whose holders die or let go in just that moment.
_TRIES = 100


class LocalPeers:
    """Peers on this host, which meet in a run directory.

    :param door: this worker's, in that directory.
    :param scope: the name of the application; those of other names are not in the way.
    """

    def __init__(self, door: Door, scope: str) -> None:
        self._door = door
        self._scope = scope

    @property
    def name(self) -> str:
        """The name of this worker's socket."""
        return self._door.name

    def serve(self, answer: Callable[[Message], Message], lost: Callable[[Key], None]) -> None:
        """Have questions answered."""
        # Nothing is ever lost: whoever lives can be met.
        self._door.serve(answer)

    def take(self, key: Key, *, alone: bool = False) -> str | None:
        """Make the link, unless it is there and leads to a worker that lives."""
        me = self._door.name
        try:
            for _ in range(_TRIES):
                holder = self._link(self._path(key), me)
                if holder is None or self._door.lives(holder):
                    return holder
                self._door.sweep()
        except OSError as error:
            raise PeersUnavailable(
                f"The run directory cannot be used ({error.strerror}).", retry_after=1
            ) from None
        raise PeersUnavailable("The id could not be had; try again.", retry_after=1)

    def holder(self, key: Key) -> str | None:
        """Where the link leads, if it is there and its worker lives."""
        try:
            holder = os.readlink(self._path(key))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PeersUnavailable(f"The run directory cannot be used ({error}).") from None
        return holder if self._door.lives(holder) else None

    def others(self) -> list[str]:
        """The names of the other sockets."""
        return self._door.others()

    def free(self, keys: Iterable[Key]) -> None:
        """Remove the links that lead here."""
        for key in keys:
            with suppress(OSError, PeersUnavailable):
                path = self._path(key)
                if os.readlink(path) == self._door.name:
                    os.unlink(path)

    def ask(self, holder: str, question: Message, seconds: float) -> Message:
        """Ask at the holder's socket."""
        try:
            return self._door.ask(holder, question, seconds)
        except Gone:
            return {"state": "nothing"}

    def close(self) -> None:
        """Take the socket away, and all links to it."""
        self._door.close()

    def _path(self, key: Key) -> str:
        text = json.dumps([self._scope, *key]).encode()
        return str(self._door.directory / hashlib.blake2b(text, digest_size=16).hexdigest())

    @staticmethod
    def _link(path: str, me: str) -> str | None:
        """Make the link, or tell where it leads."""
        while True:
            try:
                os.symlink(me, path)
            except FileExistsError:
                with suppress(FileNotFoundError):
                    return os.readlink(path)
            else:
                return None
