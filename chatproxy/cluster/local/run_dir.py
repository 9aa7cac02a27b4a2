"""The run directory: the private place where the workers of one server meet.

Only its owner may enter (mode 0700), or it is not used: whoever could write there could stop every
answer, and pretend to be a worker. The workers of one gunicorn master find the same one by what the
master knows and other users don't, so that nobody can make it before them. Any other process has
one of its own, unless ``CHATPROXY_RUN_DIR`` names one that several share.

A directory that was removed is made again when it is next used, whoever has removed it.

What changes its files in more than one step does so under the lock of the directory itself.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import ConfigError, PeersUnavailable

#: The longest path of a directory whose sockets' addresses are not too long (108 bytes on Linux,
#: 104 on other systems).
_LONGEST = 80
#: What may follow upon the prefix in the name of a directory that was not named.
_LONGEST_SUFFIX = "4194304-0123456789"
#: How many names the workers of a master try, if somebody else has what is there.
_NAMES = 8
#: Where Linux has a file system in memory that every user may write to.
_MEMORY = "/dev/shm"  # noqa: S108
#: Seconds to wait for the lock of the directory.
_LOCK_SECONDS = 1.5


def unusable(error: Exception) -> PeersUnavailable:
    """What is said if the directory can't be used."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return PeersUnavailable(
        f"The run directory cannot be used ({reason.rstrip('.')}).", retry_after=1
    )


class RunDir:
    """A run directory, made when it is first used.

    :param configured: its path; "" for one that is found or made, and removed in the end.
    :raises ConfigError: where no directory can be had there.
    """

    def __init__(self, configured: str) -> None:
        self._configured = configured
        self._path: Path | None = None
        self._process: int | None = None
        self._master = 0
        self._try()

    @property
    def path(self) -> Path:
        """The directory, which is there and private.

        :raises PeersUnavailable: where it can't be had.
        """
        if self._process != os.getpid():
            self._path, self._process, self._master = None, os.getpid(), os.getppid()
        try:
            if self._path is None or not _is_there(self._path):
                self._path = None
                self._path = self._open()
        except (OSError, ConfigError) as error:
            raise unusable(error) from None
        return self._path

    def _open(self) -> Path:
        if self._configured:
            return _private(Path(self._configured))
        remove_stale()
        if _is_gunicorn():
            return _first_private(of_master(self._master))
        return _private(Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=_base())))

    def _try(self) -> None:
        """See that files can be made there: a server whose Stop can't be right must not start."""
        where = self._configured or "the temporary directory"
        try:
            where = self._configured or str(_base())
            if self._configured:
                _private(Path(where))
            else:
                _refuse_long(Path(where, f"{_prefix()}{_LONGEST_SUFFIX}"))
            probe = Path(tempfile.mkdtemp(prefix=".chatproxy-try-", dir=where))
            try:
                (probe / "file").write_bytes(b"\0" * 4096)
            finally:
                shutil.rmtree(probe)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"CHATPROXY_RUN_DIR: no files can be made in {where} ({reason})."
            ) from None

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Be alone in the directory; yields its path.

        :raises PeersUnavailable: where that is not possible for too long.
        """
        end = time.monotonic() + _LOCK_SECONDS
        while (locked := self._lock()) is None:
            if time.monotonic() > end:
                raise PeersUnavailable("The run directory is locked; try again.", retry_after=1)
            # Not a wait in the system, which would hold up all greenlets of this process.
            time.sleep(0.005)
        path, descriptor = locked
        try:
            yield path
        finally:
            # By name: a process that was forked meanwhile has this descriptor too, and keeps it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _lock(self) -> tuple[Path, int] | None:
        path = self.path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None  # the last worker has just removed it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return path, descriptor
        except BlockingIOError:
            pass
        os.close(descriptor)
        return None

    def leave(self) -> None:
        """Remove the directory where it was not named, and the last of its workers has left."""
        if self._configured or self._path is None or self._process != os.getpid():
            return
        with suppress(OSError, PeersUnavailable):
            if _is_gunicorn():
                with self.locked() as path:
                    path.rmdir()
            else:
                shutil.rmtree(self._path)
        self._path = None


def of_master(pid: int, uid: int | None = None) -> list[Path]:
    """The run directory of a gunicorn master, if none is named, and those to try instead of it.

    A master that asks for its own gives its workers a secret by that, which they have from before
    the fork.

    :param uid: the user that its workers run as, if that is another.
    """
    found = [
        hashlib.blake2b(b"%d %s" % (number, _secret(pid)), digest_size=5).hexdigest()
        for number in range(_NAMES)
    ]
    return [_base() / f"{_prefix(uid)}{pid}-{digest}" for digest in found]


@functools.cache
def _secret(master: int) -> bytes:
    """What a master and its workers know, and other users don't.

    Without our settings for gunicorn it is where the kernel has put the master's memory, which only
    its user may read (proc(5), auxv). If that can't be read either, there is no secret.
    """
    if master == os.getpid():
        return secrets.token_bytes(16)
    with suppress(OSError):
        return Path(f"/proc/{master}/auxv").read_bytes()
    return b""


def of_this_user() -> list[Path]:
    """The run directories of this user's processes that were not named."""
    found = _base().glob(f"{_prefix()}*")
    return sorted(path for path in found if path.is_dir())


def remove_stale() -> None:
    """Remove the run directories of this user's processes that are no more."""
    for path in _base().glob(f"{_prefix()}*"):
        pid = path.name[len(_prefix()) :].partition("-")[0]
        with suppress(OSError, OverflowError):
            if pid.isdecimal() and _is_private(path) and not _lives(int(pid)) and _is_quiet(path):
                shutil.rmtree(path)


def _base() -> Path:
    """Where the directories are that were not named: in memory, unless ``TMPDIR`` says otherwise.

    Each answer makes a file there and removes it, which on a disk takes up to a hundred times as
    long.
    """
    if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK | os.X_OK):
        return Path(_MEMORY)
    return Path(tempfile.gettempdir())


def _is_gunicorn() -> bool:
    return os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/")


def _prefix(uid: int | None = None) -> str:
    return f"chatproxy-{os.geteuid() if uid is None else uid}-"


def _first_private(paths: list[Path]) -> Path:
    """The first of some directories that is there already, or else that can be made.

    :raises ConfigError: if others have them all.
    """
    for path in paths:
        if _is_there(path):
            return path
    for path in paths[:-1]:
        with suppress(ConfigError):
            return _private(path)
    return _private(paths[-1])


def _private(path: Path) -> Path:
    """Make sure of a directory that is this user's alone.

    :raises ConfigError: where it is not.
    """
    _refuse_long(path)
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        with suppress(FileNotFoundError):  # the last worker has removed it in just that moment
            if _is_private(path):
                return path
            raise ConfigError(
                f"CHATPROXY_RUN_DIR: {path} must be a directory of this user's that nobody else "
                "may enter (mode 0700)."
            )


def _refuse_long(path: Path) -> None:
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigError(f"CHATPROXY_RUN_DIR has more than {_LONGEST} bytes: {path}.")


def _is_there(path: Path) -> bool:
    """Whether there is a directory that is this user's alone."""
    with suppress(FileNotFoundError):
        return _is_private(path)
    return False


def _is_private(path: Path) -> bool:
    return _is_mine(path.lstat())


def _is_mine(found: os.stat_result) -> bool:
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return mine and not stat.S_IMODE(found.st_mode) & 0o077


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_quiet(path: Path) -> bool:
    """Whether nothing has happened there for a while, and nobody listens: a process that is
    unknown here, in another container, might use it."""
    return time.time() - path.stat().st_mtime > 60 and not any(map(_listens, path.iterdir()))


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.setblocking(False)
        return path.is_socket() and visitor.connect_ex(str(path)) != errno.ECONNREFUSED


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        there, here = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return _is_mine(here) and os.path.samestat(there, here)
