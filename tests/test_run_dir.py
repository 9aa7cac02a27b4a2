"""The run directory: private or refused, found by those who share it, locked by one, and left."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from chatproxy.cluster.local import directories
from chatproxy.cluster.local.directories import of_master, remove_stale
from chatproxy.cluster.local.run_dir import RunDir
from chatproxy.errors import ConfigError, PeersUnavailable

from .support.another import Another, several
from .support.descriptors import open_descriptors
from .support.waiting import Background, at_once, wait_for

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def temporary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of this process, which is not gunicorn's."""
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    return folder


@pytest.fixture
def under_gunicorn(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of this process, which is a worker of gunicorn's."""
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/23.0.0")
    return temporary


def refusal(path: object) -> str:
    """The one sentence with which a directory is refused."""
    with pytest.raises(ConfigError) as caught:
        RunDir(str(path))
    sentence = str(caught.value)
    assert sentence.startswith("CHATPROXY_RUN_DIR")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- private, or refused ------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_directory_that_is_not_there_is_made_for_its_owner_alone(
    folder: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        assert RunDir(str(folder / "run")).path == folder / "run"
    finally:
        os.umask(before)
    assert mode(folder / "run") == 0o700


def test_one_that_is_there_is_used_as_it_is_and_what_was_tried_there_is_gone(folder: Path) -> None:
    folder.chmod(0o700)
    (folder / "mine").write_text("kept")
    assert RunDir(str(folder)).path == folder
    assert [each.name for each in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize("bits", [0o740, 0o720, 0o710, 0o704, 0o702, 0o701, 0o777, 0o1777])
def test_one_that_others_may_enter_is_refused(folder: Path, bits: int) -> None:
    folder.chmod(bits)
    assert "0700" in refusal(folder)
    assert mode(folder) == bits


def test_a_link_is_refused_wherever_it_leads(folder: Path) -> None:
    """Whoever made it could lead it elsewhere at any time."""
    (folder / "private").mkdir(mode=0o700)
    for name, target in (("a", "private"), ("b", "nowhere"), ("c", "c")):
        (folder / name).symlink_to(target)
        refusal(folder / name)
    assert not (folder / "nowhere").exists()


def test_what_is_no_directory_is_refused(folder: Path) -> None:
    (folder / "file").write_text("")
    os.mkfifo(folder / "pipe", 0o700)
    for path in (folder / "file", folder / "pipe", folder / "file" / "below", "/dev/null"):
        refusal(path)
    assert "No such file" in refusal(folder / "missing" / "run")
    assert len(list(folder.iterdir())) == 2, "a missing parent is not made"


def test_one_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, -1)
    else:
        another = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: another)
    refusal(folder)


def test_a_path_that_is_too_long_for_a_socket_is_refused_by_its_bytes(folder: Path) -> None:
    room = 80 - len(os.fsencode(folder)) - 1
    assert RunDir(str(folder / ("x" * room))).path.is_dir()
    assert "80 bytes" in refusal(folder / ("x" * (room + 1)))
    assert "80 bytes" in refusal(folder / ("\xf6" * (room // 2 + 1)))
    assert [len(each.name) for each in folder.iterdir()] == [room]


@contextmanager
def an_ordinary_user() -> Iterator[int]:
    """This process as somebody whom permissions bind."""
    if os.geteuid():
        yield os.geteuid()
        return
    os.seteuid(NOBODY)
    try:
        yield NOBODY
    finally:
        os.seteuid(0)


def test_one_that_cannot_be_written_to_is_refused() -> None:
    folder = Path(tempfile.mkdtemp(prefix="read-only-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, -1)
        folder.chmod(0o500)
        with an_ordinary_user():
            assert "Permission denied" in refusal(folder)
            assert "Permission denied" in refusal(folder / "below")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A private directory on a full disk: a real one, where this user may mount such."""
    disk = folder / "disk"
    disk.mkdir(mode=0o700)
    size = os.sysconf("SC_PAGE_SIZE")
    options = ["-o", f"size={size},mode=0700", "tmpfs", str(disk)]
    mounted = False
    if os.geteuid() == 0 and shutil.which("mount"):
        tried = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True)
        mounted = tried.returncode == 0
    if mounted:
        (disk / "filler").write_bytes(b"x" * size)
    else:
        monkeypatch.setattr(Path, "write_bytes", _no_space)
    yield disk
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


def _no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("named", [True, False])
def test_one_on_a_full_disk_is_refused_and_nothing_is_left_there(
    full: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setenv("TMPDIR", str(full))
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    before = os.listdir(full)
    assert os.strerror(errno.ENOSPC) in refusal(full if named else "")
    assert os.listdir(full) == before


# ---- where none is named ------------------------------------------------------------------------


def test_the_workers_of_one_gunicorn_master_find_the_same(under_gunicorn: Path) -> None:
    paths = {RunDir("").path for _ in range(3)}
    (path,) = paths
    assert path == of_master(os.getppid())[0]
    assert path.parent == under_gunicorn
    assert path.name.startswith(f"chatproxy-{os.geteuid()}-{os.getppid()}-")
    assert mode(path) == 0o700


def test_any_other_process_has_one_of_its_own(temporary: Path) -> None:
    run_dirs = [RunDir("") for _ in range(3)]
    assert list(temporary.iterdir()) == []
    paths = [run_dir.path for run_dir in run_dirs]
    assert paths == [run_dir.path for run_dir in run_dirs]
    assert len(set(paths)) == 3
    assert {path.parent for path in paths} == {temporary}
    assert {mode(path) for path in paths} == {0o700}
    assert {path.name.rpartition("-")[0] for path in paths} == {
        f"chatproxy-{os.geteuid()}-{os.getpid()}"
    }


def test_one_that_somebody_else_has_put_there_is_passed_over_by_all_workers(
    under_gunicorn: Path,
) -> None:
    """In a directory that all users share, anybody can make one of any name that is known."""
    names = of_master(os.getppid())
    names[0].symlink_to(under_gunicorn)
    names[1].mkdir(mode=0o755)
    assert {RunDir("").path for _ in range(3)} == {names[2]}
    for name in names[:2]:
        name.unlink() if name.is_symlink() else name.rmdir()
    assert RunDir("").path == names[2]  # where the others are


def test_without_any_that_can_be_had_the_others_are_unavailable_and_soon_after_they_are_not(
    under_gunicorn: Path,
) -> None:
    run_dir, names = RunDir(""), of_master(os.getppid())
    for name in names:
        name.symlink_to(under_gunicorn)
    with pytest.raises(PeersUnavailable, match="cannot be used"):
        _ = run_dir.path
    names[3].unlink()
    assert run_dir.path == names[3]


MASTER = """
import os, sys
from chatproxy.cluster.local.directories import of_master
from chatproxy.cluster.local.run_dir import RunDir
os.environ["SERVER_SOFTWARE"] = "gunicorn/23.0.0"
if sys.argv[1] == "told":
    print(of_master(os.getpid())[0], flush=True)
for _ in range(2):
    child = os.fork()
    if child == 0:
        print(RunDir("").path, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(*of_master(os.getpid()))
"""


@pytest.mark.parametrize("way", ["told", "found"])
def test_the_name_is_no_secret_to_the_workers_of_a_master_and_one_to_all_others(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """With our settings for gunicorn the master chooses it; without, the workers find it."""
    seen = [Another(MASTER, way, TMPDIR=str(temporary)).rest().splitlines() for _ in range(2)]
    for *paths, _ in seen:
        assert len(set(paths)) == 1
    digests = {paths[0].rpartition("-")[2] for *paths, _ in seen}
    assert len(digests) == 2
    assert {len(digest) for digest in digests} == {10}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_workers_of_another_user_know_it_from_their_master() -> None:
    """``gunicorn --user``: they may not look into their master, and it removes theirs."""
    script = MASTER.replace("print(RunDir", "os.setuid(65534); print(RunDir").replace(
        "print(*of_master(os.getpid()))", "print(*of_master(os.getpid(), 65534))"
    )
    shared = Path(tempfile.mkdtemp(prefix="s-"))
    try:
        shared.chmod(0o1777)
        process = Another(script, "told", TMPDIR=str(shared))
        first, second, names = process.rest().splitlines()[1:]
        assert first == second == names.split()[0]
        assert Path(first).stat().st_uid == NOBODY
    finally:
        shutil.rmtree(shared)


def test_what_the_kernel_tells_of_a_master_is_for_its_user_alone() -> None:
    assert Path(f"/proc/{os.getppid()}/auxv").read_bytes()
    if os.geteuid() == 0:
        with an_ordinary_user(), pytest.raises(PermissionError):
            Path(f"/proc/{os.getppid()}/auxv").read_bytes()


def test_a_directory_that_was_removed_is_made_again_and_one_of_another_user_is_not_entered(
    folder: Path,
) -> None:
    run_dir = RunDir(str(folder / "run"))
    run_dir.path.rmdir()
    with run_dir.locked() as path:
        assert path.is_dir()
        assert mode(path) == 0o700
    run_dir.path.rmdir()
    assert run_dir.path.is_dir()
    run_dir.path.rmdir()
    (folder / "elsewhere").mkdir(mode=0o700)
    (folder / "run").symlink_to(folder / "elsewhere")
    with pytest.raises(PeersUnavailable), run_dir.locked():
        pytest.fail("a link was followed")
    (folder / "run").unlink()
    (folder / "run").mkdir(mode=0o777)
    with pytest.raises(PeersUnavailable), run_dir.locked():
        pytest.fail("others may enter")


def test_a_temporary_directory_that_is_too_deep_is_refused_at_the_start_if_there_is_no_other(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = temporary / ("x" * (80 - len(os.fsencode(temporary)) - 1))
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    for name in ("MEMORY", "SHORT"):
        monkeypatch.setattr(directories, name, "/nowhere")
    refusal("")


def test_without_any_temporary_directory_the_start_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container whose file system is read-only."""

    def find_none() -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "gettempdir", find_none)
    assert "No usable temporary directory" in refusal("")


def test_it_is_in_memory_where_there_is_such_a_file_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer makes a file there; on a disk that takes many times as long."""
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    monkeypatch.setattr(directories, "MEMORY", str(folder))
    run_dir = RunDir("")
    assert run_dir.path.parent == folder
    run_dir.leave()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("has_memory", [True, False])
def test_it_is_not_in_a_temporary_directory_that_is_too_long_for_sockets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, has_memory: bool
) -> None:
    """Such as that of macOS."""
    long = folder / ("x" * 80)
    long.mkdir()
    memory = str(folder) if has_memory else "/nowhere"
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(directories, "MEMORY", memory)
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    directories.check_base()
    run_dir = RunDir("")
    assert str(run_dir.path.parent) == (memory if has_memory else "/tmp")
    run_dir.leave()
    assert list(long.iterdir()) == []


def test_a_fork_of_a_process_gets_its_own(temporary: Path) -> None:
    script = """
import os, sys
from chatproxy.cluster.local.run_dir import RunDir
run_dir = RunDir("")
print(run_dir.path, flush=True)
child = os.fork()
if child == 0:
    run_dir.leave()
    print(run_dir.path, flush=True)
    run_dir.leave()
    os._exit(0)
os.waitpid(child, 0)
print(run_dir.path.is_dir())
"""
    before, of_child, still_there = Another(script, TMPDIR=str(temporary)).rest().split()
    assert before != of_child
    assert still_there == "True"
    assert not Path(of_child).exists()


# ---- what the dead have left --------------------------------------------------------------------


def abandoned(temporary: Path, suffix: object, seconds: float = 3600) -> Path:
    """A run directory with something in it, in which nothing has happened for a while."""
    path = temporary / f"chatproxy-{os.geteuid()}-{suffix}"
    path.mkdir(mode=0o700)
    (path / "key").symlink_to("0123.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path / "0123.sock"))
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("suffix", ["{}", "{}-a1b2c3d4"])
def test_a_directory_of_a_process_that_is_no_more_is_removed(
    temporary: Path, dead_pid: int, suffix: str
) -> None:
    path = abandoned(temporary, suffix.format(dead_pid))
    assert RunDir("").path.is_dir()
    assert not path.exists()


def test_what_a_dead_process_links_to_is_not_removed(temporary: Path, dead_pid: int) -> None:
    path = abandoned(temporary, dead_pid)
    (temporary / "precious").mkdir()
    (temporary / "precious" / "file").write_text("kept")
    (path / "link").symlink_to(temporary / "precious")
    os.utime(path, (0, 0))
    remove_stale()
    assert not path.exists()
    assert (temporary / "precious" / "file").exists()


def test_a_directory_of_a_process_that_lives_and_a_recent_one_stay(
    temporary: Path, dead_pid: int
) -> None:
    paths = [abandoned(temporary, suffix) for suffix in (os.getpid(), "1-x")]
    paths.append(abandoned(temporary, dead_pid, seconds=30))
    remove_stale()
    assert all(path.exists() for path in paths)


def test_a_directory_in_which_somebody_listens_stays(temporary: Path, dead_pid: int) -> None:
    """A server in another container that has had no sessions for a while: its process id means
    nothing here."""
    path = abandoned(temporary, dead_pid)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "4567.sock"))
        listener.listen(1)
        os.utime(path, (0, 0))
        remove_stale()
        assert path.exists()
    os.utime(path, (0, 0))
    remove_stale()
    assert not path.exists()


def test_a_directory_that_is_not_this_users_own_stays(temporary: Path, dead_pid: int) -> None:
    open_to_all, elsewhere = abandoned(temporary, dead_pid), temporary / "elsewhere"
    open_to_all.chmod(0o755)
    elsewhere.mkdir(mode=0o700)
    os.utime(elsewhere, (0, 0))
    link = temporary / f"chatproxy-{os.geteuid()}-{dead_pid}-link"
    link.symlink_to(elsewhere)
    of_another = temporary / f"chatproxy-{os.geteuid() + 1}-{dead_pid}"
    of_another.mkdir(mode=0o700)
    os.utime(of_another, (0, 0))
    remove_stale()
    for path in (open_to_all, link, elsewhere, of_another):
        assert path.exists()


@pytest.mark.parametrize("suffix", ["", "x", "-1", "1_0", "9" * 30, "\xb2", "notes-{}", "{}x"])
def test_names_that_are_no_process_stay_and_do_no_harm(
    temporary: Path, dead_pid: int, suffix: str
) -> None:
    path = abandoned(temporary, suffix.format(dead_pid))
    assert RunDir("").path.is_dir()
    assert path.exists()


# ---- the lock -----------------------------------------------------------------------------------

#: Enters again and again, and removes the directory now and then, as the last worker that leaves.
ENTER = """
import os, pathlib, sys
from contextlib import suppress
from chatproxy.cluster.local.run_dir import RunDir
run_dir, inside = RunDir(sys.argv[1]), sys.argv[2]
print(flush=True)
input()
for number in range(60):
    with run_dir.locked() as path:
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        os.unlink(inside)
        if number % 3 == 0:
            path.rmdir()
"""


def test_the_lock_lets_in_one_of_many_processes_although_the_directory_is_removed_under_it(
    folder: Path,
) -> None:
    with several(3, ENTER, folder / "run", folder / "inside") as processes:
        for process in processes:
            process.tell()
        assert {process.rest() for process in processes} == {""}


def test_whoever_waits_for_the_lock_of_a_directory_that_is_exchanged_gets_that_of_the_new_one(
    folder: Path,
) -> None:
    here, there = RunDir(str(folder / "run")), RunDir(str(folder / "run"))

    def enter() -> int:
        with there.locked() as path:
            return path.stat().st_ino

    with here.locked() as path:
        entering = Background(enter)
        path.rename(folder / "old")
        (folder / "run").mkdir(mode=0o700, exist_ok=True)  # the other may have made it already
    assert entering.result() == (folder / "run").stat().st_ino


def test_a_lock_that_cannot_be_had_is_given_up_in_time(folder: Path) -> None:
    run_dir, another = RunDir(str(folder / "run")), RunDir(str(folder / "run"))
    with another.locked():
        begun, descriptors = time.monotonic(), open_descriptors()
        with pytest.raises(PeersUnavailable) as caught, run_dir.locked():
            pytest.fail("two have the lock")
        assert open_descriptors() == descriptors
        # There must be time left to answer a Stop within its two seconds.
        assert 0.5 < time.monotonic() - begun < 2
    assert caught.value.retry_after == 1
    with run_dir.locked():
        pass


def test_what_fails_under_the_lock_unlocks(folder: Path) -> None:
    run_dir, another = RunDir(str(folder / "run")), RunDir(str(folder / "run"))
    descriptors = open_descriptors()
    for _ in range(3):
        with pytest.raises(KeyError), run_dir.locked():
            raise KeyError
        with another.locked():
            pass
    assert open_descriptors() == descriptors


HOLD = """
import sys
from chatproxy.cluster.local.run_dir import RunDir
with RunDir(sys.argv[1]).locked():
    print("locked", flush=True)
    input()
"""


def test_a_lock_ends_with_its_process(folder: Path) -> None:
    process = Another(HOLD, folder / "run")
    assert process.read() == "locked"
    process.kill()
    with RunDir(str(folder / "run")).locked():
        pass


def test_a_process_that_is_forked_under_the_lock_does_not_keep_it(folder: Path) -> None:
    script = """
import os, signal, sys
from chatproxy.cluster.local.run_dir import RunDir
with RunDir(sys.argv[1]).locked():
    child = os.fork()
    if child == 0:
        signal.pause()
try:
    with RunDir(sys.argv[1]).locked():
        print("locked again")
finally:
    os.kill(child, signal.SIGKILL)
"""
    assert Another(script, folder / "run").rest() == "locked again\n"


# ---- to leave -----------------------------------------------------------------------------------


def test_a_directory_that_was_named_stays(folder: Path) -> None:
    run_dir = RunDir(str(folder / "run"))
    (run_dir.path / "mine").touch()
    run_dir.leave()
    assert (folder / "run" / "mine").exists()


def test_the_last_worker_of_gunicorns_removes_theirs(under_gunicorn: Path) -> None:
    run_dirs = RunDir(""), RunDir("")
    of_another = run_dirs[0].path / "another.sock"
    of_another.touch()
    assert run_dirs[0].path == run_dirs[1].path
    run_dirs[0].leave()
    assert of_another.exists()
    of_another.unlink()
    run_dirs[1].leave()
    assert list(under_gunicorn.iterdir()) == []


def test_a_process_removes_its_own_with_all_that_is_in_it(temporary: Path) -> None:
    RunDir("").leave()
    assert list(temporary.iterdir()) == [], "whoever never came makes nothing"
    run_dir, of_another = RunDir(""), RunDir("")
    (run_dir.path / "left").touch()
    kept = of_another.path
    run_dir.leave()
    run_dir.leave()
    assert list(temporary.iterdir()) == [kept]


def test_a_directory_that_one_removes_while_another_comes_is_there_for_the_other(
    under_gunicorn: Path,
) -> None:
    """Whoever has the lock has a directory, however often the last one leaves."""

    def come_and_go() -> None:
        run_dir = RunDir("")
        for _ in range(50):
            with run_dir.locked() as path:
                (path / threading.current_thread().name).touch()
                (path / threading.current_thread().name).unlink()
            run_dir.leave()

    at_once(*[come_and_go] * 4)
    wait_for(lambda: list(under_gunicorn.iterdir()) == [])
