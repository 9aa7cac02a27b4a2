"""The run directory: the private place where the workers of one server meet.

Who may be in it, and where it is if it was not named, is in ``directories``. Other processes share
one if ``CHATPROXY_RUN_DIR`` names it.

A directory that was removed is made again when it is next used, whoever has removed it. Whatever
changes its files in more than one step has the lock of the directory itself meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import ConfigError, PeersUnavailable
from . import directories

#: Seconds to wait for the lock of the directory.
LOCK_SECONDS = 1.5


def unusable(error: Exception) -> PeersUnavailable:
    """The error to raise if the directory can't be used."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return PeersUnavailable(
        f"The run directory cannot be used ({reason.rstrip('.')}).", retry_after=1
    )


#: The directories that were checked before this process was forked.
_checked: set[str] = set()


def check(configured: str) -> None:
    """See that files can be made there; for a server that is about to start, before it forks.

    A server that could answer a Stop wrongly must not start. But a worker that is started later
    starts in any case, because a worker that fails to start ends the whole server. If the directory
    can't be used by then, ``RunDir.path`` raises until it can.

    :raises ConfigError: if none can be made.
    """
    _probe(configured)
    _checked.add(configured)


class RunDir:
    """A run directory, made when it is first used.

    :param configured: its path; "" for one that is found or made, and removed in the end.
    :raises ConfigError: if no directory can be had there, unless that was checked (``check``).
    """

    def __init__(self, configured: str) -> None:
        self._configured = configured
        self._path: Path | None = None
        self._process: int | None = None
        self._master = 0
        if configured not in _checked:
            _probe(configured)

    @property
    def path(self) -> Path:
        """The directory, which is there and private.

        :raises PeersUnavailable: if it can't be had.
        """
        if self._process != os.getpid():
            self._path, self._process, self._master = None, os.getpid(), os.getppid()
        try:
            if self._path is None or not directories.is_there(self._path):
                self._path = None
                self._path = self._open()
        except (OSError, ConfigError) as error:
            raise unusable(error) from None
        return self._path

    def _open(self) -> Path:
        if self._configured:
            return directories.make_private(Path(self._configured))
        directories.remove_stale()
        if _is_gunicorn():
            return directories.first_private(directories.of_master(self._master))
        return directories.of_process()

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Lock the directory, against other processes and threads; yields its path.

        :raises PeersUnavailable: if others have the lock for too long.
        """
        end = time.monotonic() + LOCK_SECONDS
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
        held = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = _is_still(path, descriptor)
        except BlockingIOError:
            pass
        finally:
            if not held:
                os.close(descriptor)
        return (path, descriptor) if held else None

    def leave(self) -> None:
        """Remove the directory, if it was not named and the last of its workers has left."""
        if self._configured or self._path is None or self._process != os.getpid():
            return
        with suppress(OSError, PeersUnavailable):
            if _is_gunicorn():
                with self.locked() as path:
                    path.rmdir()
            else:
                shutil.rmtree(self._path)
        self._path = None


def _probe(configured: str) -> None:
    where = configured or "the temporary directory"
    try:
        if configured:
            directories.make_private(Path(where))
        else:
            where = str(directories.base())
            directories.check_base()
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


def _is_gunicorn() -> bool:
    return os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/")


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to the directory that was opened, and that is private."""
    try:
        there, here = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return directories.is_private_stat(here) and os.path.samestat(there, here)
