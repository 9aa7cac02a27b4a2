"""The peers of one host: each lease is a symbolic link to the socket of the worker that holds it.

A worker holds a key if it has made the symbolic link of that key's name: the system lets only one
do so. The link leads to the holder's socket, where it can be asked. A worker that dies leaves a
socket at which nobody listens; whoever meets it removes it, with all links to it.

A link whose socket is missing is another matter: somebody may have tidied up, and the worker will
make its socket again, and its links too if the whole directory was removed. Whoever needs such a
key meanwhile waits a little, and does not take it for free.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from ...errors import PeersUnavailable
from ..peers import LeaseKey, Message, PeerState
from .accounts import LocalAccounts
from .control_socket import SETTLING_SECONDS, ControlSocket
from .messages import WorkerEnded
from .run_dir import unusable

#: How often a key is tried if its holders die or free it just then.
_ATTEMPTS = 100
#: Seconds between two looks for what was removed.
_LOOK_SECONDS = 0.02


class LocalPeers:
    """Peers on this host, which meet in a run directory; see ``Peers``.

    :param control_socket: this worker's, in that directory.
    :param scope: the name of the application; those of other names are not in the way.
    """

    def __init__(self, control_socket: ControlSocket, scope: str) -> None:
        self._control_socket = control_socket
        self._scope = scope
        #: What this worker holds or is taking, so that the links can be made again.
        self._held: set[LeaseKey] = set()
        self._on_lost: Callable[[LeaseKey], None] = _ignore
        control_socket.on_return = self._link_again
        self.accounts = LocalAccounts(self._directory, scope)

    @property
    def name(self) -> str:
        """The name of this worker's socket."""
        return self._control_socket.name

    def serve(
        self, handler: Callable[[Message], Message], on_lost: Callable[[LeaseKey], None]
    ) -> None:
        """Have requests answered."""
        self._control_socket.serve(handler)
        self._on_lost = on_lost

    def open(self) -> None:
        """Open the control socket."""
        self._control_socket.open()

    def check(self, *, allow_offline: bool = False) -> None:
        """Take a key that nobody else wants, and free it."""
        key = ("check", self._control_socket.name)
        self.take(key)
        self.free([key])

    def take(self, key: LeaseKey, *, allow_offline: bool = False) -> str | None:
        """Make the link, unless it is there and leads to a worker that lives."""
        me = self._control_socket.name
        is_new = key not in self._held
        self._held.add(key)  # now, so that a directory that is made again has it
        holder = None
        try:
            holder = self._take(key, me)
            self._control_socket.open()  # if it was removed meanwhile, so was the link
            if holder is None and self._control_socket.settling:
                raise PeersUnavailable("The run directory was removed; try again.", retry_after=1)
        except (OSError, PeersUnavailable) as error:
            if is_new:
                self.free([key])
            raise unusable(error) from None if isinstance(error, OSError) else error
        if holder not in (None, me):
            self._held.discard(key)
        return holder

    def holder(self, key: LeaseKey) -> str | None:
        """Where the link leads, if it is there and its worker lives."""
        self._control_socket.open()
        path = self._path(key)
        self._wait_for(path)
        try:
            holder = os.readlink(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable(error) from None
        return holder if self._lives(holder, path) else None

    def others(self) -> list[str]:
        """The names of the other sockets."""
        return self._control_socket.others()

    def free(self, keys: Iterable[LeaseKey]) -> None:
        """Remove the links that lead here."""
        for key in keys:
            self._held.discard(key)
            with suppress(OSError, PeersUnavailable):
                path = self._path(key)
                if self._control_socket.is_me(os.readlink(path)):
                    os.unlink(path)

    def ask(self, holder: str, request: Message, seconds: float) -> Message:
        """Send a request to the holder's socket. One that has ended knows nothing."""
        try:
            return self._control_socket.ask(holder, request, seconds)
        except WorkerEnded:
            return {"state": PeerState.UNKNOWN}

    def close(self) -> None:
        """Remove the socket, and all links to it."""
        self._control_socket.close()

    def _directory(self) -> str:
        """The run directory, which is there."""
        self._control_socket.open()
        return self._control_socket.directory

    def _path(self, key: LeaseKey) -> str:
        text = json.dumps([self._scope, *key]).encode()
        digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        return f"{self._control_socket.directory}/{digest}"

    def _take(self, key: LeaseKey, me: str) -> str | None:
        path = self._path(key)
        self._wait_for(path)
        for _ in range(_ATTEMPTS):
            holder = _link(path, me)
            if holder is None or self._lives(holder, path):
                return holder
            self._control_socket.sweep()
        raise PeersUnavailable("Could not reserve the session id; try again.", retry_after=1)

    def _wait_for(self, path: str) -> None:
        """Give the others the time to make a link again that was removed with the directory."""
        while self._control_socket.settling and not os.path.lexists(path):
            time.sleep(_LOOK_SECONDS)

    def _lives(self, holder: str, path: str) -> bool:
        """Whether the worker to which a link leads has not ended.

        If its socket was removed, it has the time to make it again.
        """
        end = time.monotonic() + SETTLING_SECONDS
        while not self._control_socket.lives(holder):
            is_dead = not self._control_socket.is_missing(holder)
            if is_dead or not os.path.lexists(path) or time.monotonic() > end:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _link_again(self, me: str) -> None:
        """Make all links anew. With the directory locked."""
        lost = []
        for key in self._held.copy():
            path = self._path(key)
            holder = _link(path, me)
            if key not in self._held and holder in (None, me):
                os.unlink(path)  # freed in this moment
            elif holder not in (None, me):
                self._held.discard(key)
                lost.append(key)
        if lost:  # as this worker was frozen for long; in a thread, as the directory is locked
            threading.Thread(target=self._lose, args=(lost,), daemon=True).start()

    def _lose(self, keys: list[LeaseKey]) -> None:
        for key in keys:
            self._on_lost(key)


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


def _ignore(_key: LeaseKey) -> None:
    """Do nothing."""
