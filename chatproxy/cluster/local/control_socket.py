"""The control socket: this worker's Unix socket in the run directory, where others ask it.

Whoever can reach the socket may ask: the directory is what keeps others out. ``messages`` has how a
request is sent and answered.

The name of a socket is a digest of the application's name, then something random. So several
applications may share a directory, and none asks the workers of another.

Somebody who tidies up may remove a socket, or the whole directory. Its worker notices within a
moment and makes the socket again under the same name, so that what led there leads there again.
Until all workers have had the time for that (``settling``), it proves nothing that a key seems to
be free.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ... import forks
from ...errors import PeersUnavailable
from ..peers import Message, PeerState
from .messages import Handler, WorkerEnded, accept, ask, is_listening, listen, shut_down
from .run_dir import RunDir, unusable

SUFFIX = ".sock"
#: Seconds between two looks whether the socket is there.
_LOOK_SECONDS = 0.25
#: Seconds in which all workers have noticed what was removed, and made it again.
SETTLING_SECONDS = 1.2
#: Seconds to wait for the reply to a request that can do without one.
_SHORT_SECONDS = 0.5

#: What tells a file from another that had its name: its device and inode.
_Identity = tuple[int, int]


class ControlSocket:
    """The socket of one worker. Nothing is opened before the first use, in each process.

    :param scope: the name of the application.
    :ivar on_return: called with this worker's name when its socket is made again. The directory is
        locked meanwhile.
    """

    def __init__(self, run_dir: RunDir, scope: str = "") -> None:
        self._run_dir = run_dir
        self._prefix = prefix_of(scope)
        self.on_return: Callable[[str], None] = _ignore
        self._handler: Handler | None = None
        forks.begin(self._set_up)
        self._process: int | None = None
        self._closed_in: int | None = None
        self._name = ""
        self._path = Path()
        #: The same as a string, which is looked at for each request.
        self._address = ""
        #: Where the socket is, and those of all other workers.
        self.directory = ""
        self._identity: _Identity | None = None
        self._settled_at = 0.0
        self._close: weakref.finalize[..., ControlSocket] | None = None

    def _set_up(self) -> None:
        self._lock = threading.Lock()  # the rest tells by the process what is its parent's

    def serve(self, handler: Handler) -> None:
        """Have requests answered by ``handler``, a method, in a thread each."""
        self._handler = handler

    @property
    def name(self) -> str:
        """The name of the socket, which is this worker's among its peers. Opens it.

        :raises PeersUnavailable: if it can't be opened.
        """
        self.open()
        return self._name

    @property
    def settling(self) -> bool:
        """Whether others may not have made again what was removed."""
        return time.monotonic() < self._settled_at

    def open(self) -> None:
        """Listen, once in each process, and again if the socket was removed.

        :raises PeersUnavailable: if it can't be opened.
        """
        if not self._is_open():
            with self._lock:
                if not self._is_open():
                    self._open()

    def _is_open(self) -> bool:
        if self._closed_in == os.getpid():
            return True  # for good
        return self._process == os.getpid() and _identity(self._address) == self._identity

    def _open(self) -> None:
        returns = self._process == os.getpid()
        if not returns:
            self._name = self._prefix + secrets.token_urlsafe(6) + SUFFIX
        try:
            # Locked, so that nobody finds the socket before it listens and takes it for dead.
            with self._run_dir.locked() as path:
                self._path = path / self._name
                self.directory, self._address = str(path), str(self._path)
                _sweep(path)
                self._begin(listen(self._path), returns=returns)
        except (OSError, RuntimeError) as error:
            raise unusable(error) from None

    def _begin(self, listener: socket.socket, *, returns: bool) -> None:
        try:
            if returns:
                self._settled_at = time.monotonic() + SETTLING_SECONDS
                self.on_return(self._name)
            self._start_accepting(listener)
        except BaseException:
            shut_down(listener)
            self._path.unlink(missing_ok=True)
            raise
        if returns and self._close is not None and (earlier := self._close.detach()):
            shut_down(earlier[2][0])
        self._close = weakref.finalize(self, _shut_down, listener, self._run_dir, os.getpid())
        self._identity, self._process = _identity(self._address), os.getpid()

    def _start_accepting(self, listener: socket.socket) -> None:
        assert self._handler is not None, "serve comes first"
        # The thread must not keep alive an application that nobody needs any more.
        look = partial(_reopen, weakref.ref(self))
        threading.Thread(
            target=accept,
            args=(listener, weakref.WeakMethod(self._handler), look, _LOOK_SECONDS),
            name="chatproxy-control",
            daemon=True,
        ).start()

    def close(self) -> None:
        """Remove the socket, and all links to it."""
        with self._lock:
            if self._close is not None and self._process == os.getpid():
                self._closed_in = self._process
                self._close()

    # ---- the other workers ----------------------------------------------------------------------

    def ask(self, name: str, request: Message, seconds: float) -> Message:
        """Send a request to another worker; see ``messages.ask``."""
        return ask(self._run_dir.path / name, request, seconds)

    def is_anyone(self, state: PeerState) -> bool:
        """Whether any other worker says that it is in this state."""
        for name in self.others():
            with suppress(WorkerEnded, PeersUnavailable):
                if self.ask(name, {"ask": "ready"}, _SHORT_SECONDS).get("state") == state:
                    return True
        return False

    def others(self) -> list[str]:
        """The names of the application's other workers, some of which may have ended.

        :raises PeersUnavailable: if the run directory can't be read.
        """
        try:
            found = os.listdir(self._run_dir.path)
        except OSError as error:
            raise unusable(error) from None
        ours = (each for each in found if each.startswith(self._prefix))
        return [each for each in ours if each.endswith(SUFFIX) and each != self._name]

    def is_me(self, name: str) -> bool:
        """Whether a name is this worker's, if it has one yet."""
        return name == self._name and self._process == os.getpid()

    def lives(self, name: str) -> bool:
        """Whether a worker has not ended."""
        return name == self._name or is_listening(self._run_dir.path / name)

    def is_missing(self, name: str) -> bool:
        """Whether there is no socket of this name, not even that of a worker that has ended."""
        return not os.path.lexists(self._run_dir.path / name)

    def sweep(self) -> None:
        """Remove what dead workers have left behind, and what leads to no socket.

        :raises PeersUnavailable: if the directory is locked for too long.
        """
        with self._run_dir.locked() as path:
            _sweep(path, orphans=True)


def prefix_of(scope: str) -> str:
    """How the names of an application's sockets begin."""
    digest = hashlib.blake2b(scope.encode(), digest_size=6).digest()
    return base64.urlsafe_b64encode(digest).decode()


def _identity(path: str) -> _Identity | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _ignore(_name: str) -> None:
    """Do nothing."""


def _reopen(reference: weakref.ref[ControlSocket]) -> None:
    control_socket = reference()
    if control_socket is not None:
        with suppress(PeersUnavailable):  # it is tried again
            control_socket.open()


def _shut_down(listener: socket.socket, run_dir: RunDir, process: int) -> None:
    if process != os.getpid():
        return  # a fork of the worker
    with suppress(OSError, PeersUnavailable), run_dir.locked() as path:
        shut_down(listener)
        _sweep(path)
    shut_down(listener)
    run_dir.leave()


def _sweep(path: Path, *, orphans: bool = False) -> None:
    """Remove the sockets at which nobody listens, and the links to them. With the lock held.

    :param orphans: also the links to sockets that are not there. Somebody else may have removed the
        socket of a worker that lives.
    """
    names = os.listdir(path)
    sockets = {name for name in names if name.endswith(SUFFIX)}
    dead = {name for name in sockets if not is_listening(path / name)}
    for name in names:
        with suppress(OSError):
            target = os.readlink(path / name) if (path / name).is_symlink() else name
            is_orphan = target.endswith(SUFFIX) and target not in sockets
            if target in dead or (orphans and is_orphan):
                (path / name).unlink()
