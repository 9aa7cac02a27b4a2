"""Peers on one host: each key has one holder, and the dead hold nothing."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from chatproxy.cluster.local.control_socket import ControlSocket
from chatproxy.cluster.local.peers import LocalPeers
from chatproxy.cluster.local.run_dir import RunDir
from chatproxy.cluster.peers import LeaseKey
from chatproxy.errors import PeersUnavailable

from .support.another import Another, several
from .support.waiting import PATIENCE, at_once

#: What makes a worker in another process.
WORKER = """
import itertools, sys
from chatproxy.cluster.local.control_socket import ControlSocket
from chatproxy.cluster.local.peers import LocalPeers
from chatproxy.cluster.local.run_dir import RunDir

class Worker:
    def answer(self, question):
        return {"state": "active"}

worker, control_socket = Worker(), ControlSocket(RunDir(sys.argv[1]))
peers = LocalPeers(control_socket, "app")
peers.serve(worker.answer, None)
"""
NewPeers = Callable[..., LocalPeers]


class Worker:
    def __init__(self, place: Path, scope: str) -> None:
        self.peers = LocalPeers(ControlSocket(RunDir(str(place))), scope)
        self.peers.serve(self.answer, lambda _key: None)

    def answer(self, question: dict[str, object]) -> dict[str, object]:
        return {"state": "active", "by": self.peers.name, **question}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workers meet."""
    return tmp_path_factory.mktemp("d") / "run"


@pytest.fixture
def new_peers(place: Path) -> Iterator[NewPeers]:
    """Makes workers."""
    with ExitStack() as stack:
        workers = []

        def make(scope: str = "app") -> LocalPeers:
            workers.append(Worker(place, scope))
            stack.callback(workers[-1].peers.close)
            return workers[-1].peers

        yield make


def links(place: Path) -> set[str]:
    """The sockets to which keys lead."""
    return {os.readlink(each) for each in place.iterdir() if each.is_symlink()}


def test_a_key_has_one_holder_who_is_named_to_the_others(new_peers: NewPeers) -> None:
    one, two = new_peers(), new_peers()
    assert one.take(("id", "ada", "1")) is None
    assert two.take(("id", "ada", "1")) == one.name
    assert one.take(("id", "ada", "1")) == one.name
    assert two.take(("id", "ada", "2")) is None
    assert one.take(("id", "ada", "2")) == two.name


def test_a_key_that_its_holder_frees_can_be_taken(new_peers: NewPeers, place: Path) -> None:
    one, two = new_peers(), new_peers()
    assert one.take(("a",)) is one.take(("b",)) is one.take(("c",)) is None
    two.free([("a",), ("never taken",)])  # it is not the holder
    assert two.take(("a",)) == one.name
    one.free([("a",), ("b",)])
    assert two.take(("a",)) is two.take(("b",)) is None
    assert two.take(("c",)) == one.name
    one.free([("c",)])
    two.free([("a",), ("b",)])
    assert links(place) == set()


def test_applications_of_other_names_are_not_in_the_way(new_peers: NewPeers) -> None:
    one, two = new_peers("one"), new_peers("two")
    assert one.take(("a",)) is two.take(("a",)) is None
    one.free([("a",)])
    assert new_peers("two").take(("a",)) == two.name
    assert new_peers("one").take(("a",)) is None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPeers]:
    worker = Worker(tmp_path_factory.mktemp("d") / "run", "app")
    yield worker.peers
    worker.peers.close()


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("id", "a", "b:c"), ("id", "a:b", "c")),
        (("id", "a", ""), ("id", "", "a")),
        (("id", "a\0", "b"), ("id", "a", "\0b")),
        (("id", "\ud800", ""), ("id", "?", "")),
        (("id", "\ud800", ""), ("id", "\\ud800", "")),
        (("id", '"', '", "'), ("id", '", "', '"')),
        (("id", "../../etc", "passwd"), ("id", "../..", "etc/passwd")),
        (("id", "\xf6", ""), ("id", "o\u0308", "")),
        (("id", "x" * 100_000, ""), ("id", "x" * 100_001, "")),
    ],
)
def test_keys_that_look_alike_are_two(shared: LocalPeers, one: LeaseKey, two: LeaseKey) -> None:
    assert shared.take(one) is shared.take(two) is None
    assert shared.take(one) == shared.take(two) == shared.name
    shared.free([one, two])


def test_a_holder_is_asked_by_its_name_and_when_it_has_ended_the_key_means_nothing(
    new_peers: NewPeers,
) -> None:
    one, two = new_peers(), new_peers()
    one.take(("a",))
    holder = two.take(("a",))
    assert holder == one.name
    answer = {"state": "active", "by": one.name, "ask": "state"}
    assert two.ask(holder, {"ask": "state"}, 5) == answer
    one.close()
    assert two.ask(holder, {"ask": "state"}, 5) == {"state": "nothing"}


def test_to_close_frees_all(new_peers: NewPeers, place: Path) -> None:
    one, two = new_peers(), new_peers()
    for number in range(10):
        assert one.take(("one", str(number))) is two.take(("two", str(number))) is None
    one.close()
    assert links(place) == {two.name}
    assert two.take(("one", "0")) is None


# ---- many at once -------------------------------------------------------------------------------


def test_of_many_threads_exactly_one_gets_each_key(new_peers: NewPeers) -> None:
    workers = [new_peers() for _ in range(3)]
    barrier = threading.Barrier(6)
    got: list[int] = []

    def take_all(peers: LocalPeers) -> None:
        for number in range(50):
            barrier.wait(PATIENCE)
            if peers.take(("id", "", str(number))) is None:
                got.append(number)

    at_once(*(partial(take_all, peers) for peers in workers * 2))
    assert sorted(got) == list(range(50))


TAKE_ALL = """
peers.name
print(flush=True)
input()
numbers = range(100)
if int(sys.argv[2]) % 2:
    numbers = reversed(numbers)
print(*[number for number in numbers if peers.take(("id", "", str(number))) is None], flush=True)
input()
"""
HOLD_ALL = """
for number in range(100):
    assert peers.take(("id", "", str(number))) is None
print(flush=True)
input()
"""


def test_what_a_killed_process_held_goes_to_exactly_one_other_and_at_once(place: Path) -> None:
    with several(3, WORKER + TAKE_ALL, place) as others:
        dead = Another(WORKER + HOLD_ALL, place)
        dead.read()
        dead.kill()
        for process in others:
            process.tell()
        got = [int(number) for process in others for number in process.read().split()]
    assert sorted(got) == list(range(100))


TAKE_AND_FREE = """
import os
print(flush=True)
input()
for _ in range(50):
    while (holder := peers.take(("id", "", "the one"))) is not None:
        assert holder != peers.name
    os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
    os.unlink(sys.argv[2])
    peers.free([("id", "", "the one")])
print("done", flush=True)
input()
"""


def test_a_key_that_goes_round_has_one_holder_at_a_time(place: Path) -> None:
    inside = place.parent / "inside"
    with several(3, WORKER + TAKE_AND_FREE, place, inside) as processes:
        for process in processes:
            process.tell()
        for process in processes:
            assert process.read() == "done"


# ---- what the system refuses --------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE]
)
def test_where_no_link_can_be_made_the_table_is_unavailable(
    new_peers: NewPeers, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    one, two = new_peers(), new_peers()
    one.take(("a",))
    monkeypatch.setattr(os, "symlink", refuse)
    for alone in (False, True):
        with pytest.raises(PeersUnavailable) as caught:
            two.take(("b",), allow_offline=alone)
    assert os.strerror(number) in caught.value.message
    assert caught.value.retry_after == 1
    monkeypatch.undo()
    assert two.take(("a",)) == one.name
    assert two.take(("b",)) is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_to_free_what_cannot_be_removed_does_not_raise(
    new_peers: NewPeers, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    peers = new_peers()
    peers.take(("a",))
    monkeypatch.setattr(os, "unlink", refuse)
    peers.free([("a",)])
    monkeypatch.undo()
    assert peers.take(("a",)) == peers.name


def test_without_the_directory_the_table_is_unavailable_and_nothing_else_is_raised(
    new_peers: NewPeers, place: Path
) -> None:
    peers, unused = new_peers(), new_peers()
    peers.take(("a",))
    shutil.rmtree(place)
    place.touch()
    for each in (peers, unused):
        with pytest.raises(PeersUnavailable):
            each.take(("b",))
        each.free([("a",)])
        each.close()
    place.unlink()


def test_a_key_in_whose_place_is_something_else_is_unavailable(
    new_peers: NewPeers, place: Path
) -> None:
    peers = new_peers()
    peers.take(("a",))
    (link,) = [each for each in place.iterdir() if each.is_symlink()]
    link.unlink()
    link.touch()
    with pytest.raises(PeersUnavailable):
        peers.take(("a",))
    peers.free([("a",)])
    assert link.exists()
