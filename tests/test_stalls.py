"""Clients that take nothing of what is sent to them are dropped, whatever their sockets are."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chatproxy.server.stalled_clients import StalledClients

from .support.waiting import Background, wait_for

TIMEOUT = 0.4
Ends = tuple[socket.socket, socket.socket]


def pair(family: str) -> Ends:
    """The server's end and the client's, who takes in little by itself."""
    if family == "unix":
        return socket.socketpair()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = socket.create_connection(listener.getsockname())
        return server, listener.accept()[0]


@pytest.fixture
def full() -> Iterator[Callable[[], socket.socket]]:
    """Makes sockets of which nobody takes anything, and that are full."""
    with contextlib.ExitStack() as stack:

        def make() -> socket.socket:
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            fill(stack.enter_context(ours))
            return ours

        yield make


@pytest.fixture(params=["tcp", "unix"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    ours, theirs = pair(request.param)
    with ours, theirs:
        yield ours, theirs


def fill(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 65536)
    sock.setblocking(True)


def is_shut(sock: socket.socket) -> bool:
    try:
        sock.send(b"x", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def write_on(sock: socket.socket) -> Background[None]:
    """A thread that is blocked in writing much."""
    return Background(lambda: sock.sendall(b"x" * 50_000_000))


def test_whoever_is_blocked_in_writing_is_freed(ends: Ends) -> None:
    ours, _theirs = ends
    writing = write_on(ours)
    StalledClients(TIMEOUT).watch(ours.fileno())
    with pytest.raises(BrokenPipeError):
        writing.result()


def test_a_client_that_takes_a_little_now_and_then_stays(ends: Ends) -> None:
    ours, theirs = ends
    writing = write_on(ours)
    StalledClients(TIMEOUT).watch(ours.fileno())
    end = time.monotonic() + 3 * TIMEOUT
    while time.monotonic() < end:
        assert theirs.recv(20_000)
        time.sleep(TIMEOUT / 20)
    assert writing.is_alive()
    ours.shutdown(socket.SHUT_RDWR)
    with pytest.raises(BrokenPipeError):
        writing.result()


def test_a_client_that_has_nothing_to_take_stays(
    ends: Ends, full: Callable[[], socket.socket]
) -> None:
    ours, theirs = ends
    watch = StalledClients(TIMEOUT)
    watch.watch(ours.fileno())
    other = full()
    watch.watch(other.fileno())
    wait_for(lambda: is_shut(other))
    time.sleep(TIMEOUT)
    ours.send(b"still there")
    assert theirs.recv(100) == b"still there"


def test_a_socket_that_has_come_in_the_place_of_a_closed_one_is_let_alone(
    full: Callable[[], socket.socket],
) -> None:
    """The server may close one at any time, and its descriptor is used again."""
    ours, new = full(), full()
    watch = StalledClients(TIMEOUT)
    watch.watch(ours.fileno())
    os.dup2(new.fileno(), ours.fileno())
    last = full()
    watch.watch(last.fileno())
    wait_for(lambda: is_shut(last))
    assert not is_shut(new)


def test_the_thread_ends_with_the_last_socket(ends: Ends) -> None:
    ours, _theirs = ends

    def runs() -> bool:
        return any(thread.name == "chatproxy-stalls" for thread in threading.enumerate())

    wait_for(lambda: not runs(), message="the end of the threads of other tests")
    watch = StalledClients(0.1)
    watch.watch(ours.fileno())
    assert runs()
    ours.close()
    wait_for(lambda: not runs())
