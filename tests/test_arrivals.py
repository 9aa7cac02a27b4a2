"""Requests that arrive are bounded in number and in time."""

import contextlib
import socket
import threading
import time

import pytest

from chatproxy.errors import BodyTimeout
from chatproxy.server.arrivals import Arrival, Arrivals, BodyTimer

from .support.waiting import wait_for


@pytest.fixture
def told():
    return []


@pytest.fixture
def connect():
    """Makes connections: the client's end and the server's."""
    opened = []

    def make():
        pair = socket.socketpair()
        opened.extend(pair)
        for each in pair:
            each.settimeout(10)
        return pair

    yield make
    for each in opened:
        each.close()


def test_the_oldest_makes_room_for_a_newcomer(connect, told):
    arrivals = Arrivals(lambda *what: told.append(what), most=2)
    servers = [connect()[1] for _ in range(3)]
    for server in servers:
        arrivals.begin(Arrival(server.fileno()), "body", 60)
    assert len(arrivals) == 2
    assert told == [("body", "room")]
    assert servers[0].recv(1) == b""
    servers[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        servers[1].recv(1)


def test_who_begins_anew_is_the_youngest_again(connect, told):
    arrivals = Arrivals(lambda *what: told.append(what), most=2)
    first, second, third = (Arrival(connect()[1].fileno()) for _ in range(3))
    for each in (first, second, first, third):
        arrivals.begin(each, "head", 60)
    assert [each.ended for each in (first, second, third)] == ["", "room", ""]


def test_it_is_one_of_those_that_most_are_awaited_for_that_makes_room(connect, told):
    """Many that send nothing push out nobody who sends, or takes, slowly."""
    arrivals = Arrivals(lambda *what: told.append(what), most=5)
    slow = [Arrival(connect()[1].fileno()) for _ in range(2)]
    arrivals.begin(slow[0], "body", 60)
    arrivals.begin(slow[1], "answer", 60)
    silent = [Arrival(connect()[1].fileno()) for _ in range(10)]
    for each in silent:
        arrivals.begin(each, "", 60)
    assert [each.ended for each in slow] == ["", ""]
    assert [each.ended for each in silent] == ["room"] * 7 + [""] * 3
    assert len(arrivals) == 5


@pytest.mark.parametrize("just_come", ["", "head", "body"])
def test_of_two_parts_that_as_many_wait_for_it_is_the_older_wait(connect, told, just_come):
    """So whoever has just come can send what it came for."""
    arrivals = Arrivals(lambda *what: told.append(what), most=2)
    older, newcomer, third = (Arrival(connect()[1].fileno()) for _ in range(3))
    for each, part in ((older, "answer"), (newcomer, just_come), (third, "answer")):
        arrivals.begin(each, part, 60)
    assert [each.ended for each in (older, newcomer, third)] == ["room", "", ""]


def test_what_is_late_is_ended_and_counted_unless_it_was_only_idle(connect, told):
    arrivals = Arrivals(lambda *what: told.append(what))
    late, idle, early = (Arrival(connect()[1].fileno()) for _ in range(3))
    for arrival, awaited, seconds in (late, "head", 0), (idle, "", 0), (early, "head", 60):
        arrivals.begin(arrival, awaited, seconds)
    arrivals.sweep()
    assert (late.ended, idle.ended, early.ended) == ("timeout", "timeout", "")
    assert told == [("head", "timeout")]


def test_an_answer_can_still_be_sent_to_who_was_late(connect, told):
    client, server = connect()
    arrivals = Arrivals(lambda *what: told.append(what))
    arrivals.begin(Arrival(server.fileno()), "body", 0)
    arrivals.sweep()
    server.sendall(b"408")
    assert client.recv(3) == b"408"


def test_a_body_that_comes_in_time_is_read_in_peace(connect, told):
    client, server = connect()
    client.sendall(b"body")
    with BodyTimer(60, lambda *what: told.append(what)).limit(server):
        assert server.recv(4) == b"body"
    assert told == []


def test_a_body_that_drips_is_ended_in_time(connect, told):
    """The time is for all of it: each byte in time is not enough."""
    client, server = connect()
    over = threading.Event()

    def drip():
        with contextlib.suppress(BrokenPipeError):  # it is late
            while not over.wait(0.01):
                client.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    begun = time.monotonic()
    try:
        with pytest.raises(BodyTimeout):
            read_all(server, BodyTimer(0.2, lambda *what: told.append(what)))
    finally:
        over.set()
        dripping.join()
    assert 0.2 <= time.monotonic() - begun < 5
    assert told == [("body", "timeout")]


def test_late_is_late_whatever_the_reader_makes_of_it(connect, told):
    _, server = connect()
    with pytest.raises(BodyTimeout):
        read_all(server, BodyTimer(0.05, lambda *what: told.append(what)), ValueError("short"))


def read_all(server, timer, error=None):
    with timer.limit(server):
        while server.recv(1):
            pass
        if error is not None:
            raise error


def test_nobody_is_timed_if_the_socket_is_not_known(told):
    with BodyTimer(0.01, lambda *what: told.append(what)).limit(None):
        pass
    assert told == []


def test_the_timer_has_no_thread_while_nobody_sends(connect, told):
    def timers():
        return [each for each in threading.enumerate() if each.name == "chatproxy-bodies"]

    with BodyTimer(0.2, lambda *what: told.append(what)).limit(connect()[1]):
        assert timers()
    wait_for(lambda: not timers(), message="the end of the thread")
