"""The paths of run directories: how they are chosen, found again, and checked to be private.

A directory is private if it is this user's and nobody else may enter it (mode 0700). No other is
ever used: whoever could write there could stop every answer, and pretend to be a worker.

If none is named, the workers of one gunicorn master find theirs by what the master knows and other
users don't, so that nobody else can make it before them. Any other process makes one of its own.
The names begin with the user's number and the process's, so that those of processes that are no
more can be removed.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ...errors import ConfigError

#: The longest path of a directory, in bytes: the address of a socket in it has at most 108 bytes on
#: Linux, 104 on other systems.
_LONGEST = 80
#: The longest that may follow the prefix in a name.
_LONGEST_SUFFIX = "4194304-0123456789"
#: How many names the workers of a master try, if somebody else has what is there.
_NAMES = 8
#: Where Linux has a file system in memory that every user may write to.
MEMORY = "/dev/shm"  # noqa: S108
#: A temporary directory whose path is short.
SHORT = "/tmp"  # noqa: S108


def base() -> Path:
    """Where the directories are that were not named: in memory, unless ``TMPDIR`` says otherwise.

    Each answer makes a file there and removes it, which takes up to a hundred times as long on a
    disk. If ``TMPDIR`` is too long for sockets, as macOS has it, they are where it would not be.

    :raises OSError: if no file can be made in any temporary directory.
    """
    if "TMPDIR" not in os.environ and _is_writable(MEMORY):
        return Path(MEMORY)
    usual = tempfile.gettempdir()
    fit = (each for each in (usual, MEMORY, SHORT) if _has_room(each) and _is_writable(each))
    return Path(next(fit, usual))


def _is_writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _has_room(folder: str) -> bool:
    """Whether the directory of any process could have sockets there."""
    return not _is_long(_longest_in(folder))


def _longest_in(folder: Path | str) -> Path:
    return Path(folder, f"{_prefix()}{_LONGEST_SUFFIX}")


def of_process() -> Path:
    """A new directory, for this process alone.

    :raises ConfigError: if its path is too long.
    """
    path = tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=base())
    return make_private(Path(path))


def of_master(pid: int, uid: int | None = None) -> list[Path]:
    """The directory of a gunicorn master, and those to try if somebody else has it.

    A master that asks for its own makes a secret by that, which its workers have from before the
    fork.

    :param uid: the user that its workers run as, if that is another.
    """
    found = [
        hashlib.blake2b(b"%d %s" % (number, _secret(pid)), digest_size=5).hexdigest()
        for number in range(_NAMES)
    ]
    return [base() / f"{_prefix(uid)}{pid}-{digest}" for digest in found]


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
    """The directories of this user's processes that were not named."""
    found = base().glob(f"{_prefix()}*")
    return sorted(path for path in found if path.is_dir())


def remove_stale() -> None:
    """Remove the directories of this user's processes that are no more."""
    for path in base().glob(f"{_prefix()}*"):
        pid = path.name[len(_prefix()) :].partition("-")[0]
        with suppress(OSError, OverflowError):
            if pid.isdecimal() and is_private(path) and not _lives(int(pid)) and _is_quiet(path):
                shutil.rmtree(path)


def _prefix(uid: int | None = None) -> str:
    return f"chatproxy-{os.geteuid() if uid is None else uid}-"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_quiet(path: Path) -> bool:
    """Whether nothing has happened there for a while, and nobody listens.

    A process that can't be seen from here, in another container, might use it.
    """
    return time.time() - path.stat().st_mtime > 60 and not any(map(_listens, path.iterdir()))


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        return path.is_socket() and client.connect_ex(str(path)) != errno.ECONNREFUSED


# ---- private directories ------------------------------------------------------------------------


def first_private(paths: list[Path]) -> Path:
    """The first of some directories that is there already, or else the first that can be made.

    :raises ConfigError: if others have them all.
    """
    for path in paths:
        if is_there(path):
            return path
    for path in paths[:-1]:
        with suppress(ConfigError):
            return make_private(path)
    return make_private(paths[-1])


def make_private(path: Path) -> Path:
    """Make a private directory, unless it is there.

    :raises ConfigError: if what is there is not private, or its path is too long.
    """
    _refuse_long(path)
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        with suppress(FileNotFoundError):  # the last worker has removed it just then
            if is_private(path):
                return path
            raise ConfigError(
                f"CHATPROXY_RUN_DIR: {path} must be a directory of this user's that nobody else "
                "may enter (mode 0700)."
            )


def check_base() -> None:
    """See that the directory of any process can have sockets.

    :raises ConfigError: if its path would be too long.
    """
    _refuse_long(_longest_in(base()))


def _refuse_long(path: Path) -> None:
    if _is_long(path):
        raise ConfigError(f"CHATPROXY_RUN_DIR has more than {_LONGEST} bytes: {path}.")


def _is_long(path: Path) -> bool:
    return len(os.fsencode(path)) > _LONGEST


def is_there(path: Path) -> bool:
    """Whether there is a private directory."""
    with suppress(FileNotFoundError):
        return is_private(path)
    return False


def is_private(path: Path) -> bool:
    """Whether what is there is a private directory.

    :raises FileNotFoundError: if nothing is.
    """
    return is_private_stat(path.lstat())


def is_private_stat(found: os.stat_result) -> bool:
    """Whether this is what ``stat`` says of a private directory."""
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return mine and not stat.S_IMODE(found.st_mode) & 0o077
