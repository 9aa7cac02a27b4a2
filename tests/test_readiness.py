"""Waiting for bytes: who takes the steps, what ends the wait, and what is left behind.

Under gevent, which is not patched in here: the claims are functions that run in another process.
"""

from __future__ import annotations

import contextvars
import gc
import socket
import ssl
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trustme

from chatproxy.answers.coroutines import Coroutine, Readable, run
from chatproxy.server.event_loop import CoroutineRunner
from chatproxy.upstreams.transport.response import Response

from .support.another import Another, in_a_child
from .support.many import MANY, Many, pair, wait
from .support.waiting import PATIENCE, wait_for, wait_for_garbage

UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
from tests import test_readiness
test_readiness.try_all()
"""


class Failed(Exception):
    """A step failed."""


class Steps:
    """Reads piece by piece until ``end`` comes; keeps what came, and who took each step."""

    def __init__(self, sock: Any, size: int = 100, end: bytes = b".") -> None:
        self._sock = sock
        self._size = size
        self._end = end
        self.taken_by: list[Any] = []
        self.pieces: list[bytes] = []

    def __call__(self) -> bool:
        import gevent

        self.taken_by.append(gevent.getcurrent())
        self.pieces.append(self._sock.recv(self._size))
        return not self.pieces[-1].endswith(self._end)


def fail_at(data: bytes, sock: socket.socket) -> bool:
    if sock.recv(100) == data:
        raise Failed
    return True


# --- without gevent


def test_without_gevent_the_calling_thread_steps_and_waits() -> None:
    with pair() as (ours, theirs):
        steps, threads = Steps(ours), []

        def step() -> bool:
            threads.append(threading.current_thread())
            goes_on = steps()
            if steps.pieces == [b"a"]:  # the next step has to wait
                threading.Timer(0.05, theirs.sendall, [b"b."]).start()
            return goes_on

        theirs.sendall(b"a")
        assert run(wait(ours, step)) == "gone on"
        assert steps.pieces == [b"a", b"b."]
        assert set(threads) == {threading.current_thread()}
        assert ours.gettimeout() == PATIENCE


def test_without_gevent_a_coroutine_may_catch_an_error_and_wait_again() -> None:
    with pair() as (ours, theirs):
        theirs.sendall(b"a")

        def caught() -> Coroutine[bytes]:
            with pytest.raises(Failed):
                yield Readable(ours, partial(fail_at, b"a", ours))
            theirs.sendall(b"b.")
            steps = Steps(ours)
            yield Readable(ours, steps)
            return steps.pieces[0]

        assert run(caught()) == b"b."


def test_without_gevent_a_coroutine_runs_beside_who_spawns_it() -> None:
    with pair() as (ours, theirs):
        task = Task(ours, Steps(ours))
        theirs.sendall(b".")
        task.join()
        assert task.ran_in[0] is task.ran_in[1] is not threading.current_thread()


def test_without_gevent_a_coroutine_stays_in_the_context_of_who_spawned_it() -> None:
    check_contexts()


# --- under gevent


VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


def check_contexts() -> None:
    """Two coroutines that wait by turns see what each spawner had set, and what they set."""
    seen: dict[str, list[str]] = {"one": [], "two": []}
    over = threading.Event()

    def look(name: str, ours: Any) -> Coroutine[None]:
        seen[name].append(VARIABLE.get())
        yield Readable(ours, Steps(ours))
        seen[name].append(VARIABLE.get())
        token = VARIABLE.set("inner " + name)
        yield Readable(ours, Steps(ours))
        seen[name].append(VARIABLE.get())
        VARIABLE.reset(token)
        seen[name].append(VARIABLE.get())
        if all(len(each) == 4 for each in seen.values()):
            over.set()

    with pair() as (one, to_one), pair() as (two, to_two):
        for name, ours in (("one", one), ("two", two)):
            token = VARIABLE.set(name)
            CoroutineRunner().spawn(look(name, ours))
            VARIABLE.reset(token)
        for length in (1, 2):
            wait_for(lambda length=length: min(map(len, seen.values())) == length)
            to_one.sendall(b".")
            to_two.sendall(b".")
        assert over.wait(PATIENCE)
        assert seen == {name: [name, name, f"inner {name}", name] for name in seen}
        assert VARIABLE.get() == "unset"


class Task:
    """A coroutine that runs beside this thread, and waits once."""

    def __init__(
        self, sock: Any, step: Callable[[], bool], runner: CoroutineRunner | None = None
    ) -> None:
        self._sock = sock
        self._step = step
        self._ended = threading.Event()
        #: The greenlets (or threads) before and after the wait.
        self.ran_in: list[Any] = []
        (runner or CoroutineRunner()).spawn(self._run())

    def _run(self) -> Coroutine[None]:
        self.ran_in.append(current())
        try:
            yield Readable(self._sock, self._step)
        finally:
            self.ran_in.append(current())
            self._ended.set()

    def join(self) -> None:
        """Wait for its end."""
        assert self._ended.wait(PATIENCE)


def current() -> Any:
    """The greenlet that runs, or the thread where gevent has not patched."""
    import gevent
    from gevent import monkey

    if monkey.is_module_patched("socket"):
        return gevent.getcurrent()
    return threading.current_thread()


def waiting(sock: Any, step: Callable[[], bool], runner: CoroutineRunner | None = None) -> Task:
    """A coroutine that waits, for want of anything to read."""
    task = Task(sock, step, runner)
    wait_for(lambda: sock.gettimeout() == 0.0)
    assert len(task.ran_in) == 1
    return task


def the_event_loop_steps_while_the_coroutine_waits() -> None:
    import gevent

    with pair() as (ours, theirs):
        steps = Steps(ours)
        task = waiting(ours, steps)
        assert steps.taken_by == task.ran_in  # which found nothing
        for piece in (b"a", b"b", b"c."):
            theirs.sendall(piece)
            wait_for(partial(steps.pieces.__contains__, piece))
        task.join()
        assert steps.pieces == [b"a", b"b", b"c."]
        assert steps.taken_by[1:] == [gevent.get_hub()] * 3


def what_is_there_already_needs_no_wait() -> None:
    with pair() as (ours, theirs):
        theirs.sendall(b"a.")
        steps = Steps(ours)
        task = Task(ours, steps)
        task.join()
        assert len({*steps.taken_by, *task.ran_in}) == 1


def nothing_is_read_after_the_last_step() -> None:
    with pair() as (ours, theirs):
        task = waiting(ours, Steps(ours, size=2))
        theirs.sendall(b"a.b")
        task.join()
        assert ours.recv(100) == b"b"


def errors_of_steps_are_raised_in_the_coroutine_which_may_wait_again() -> None:
    """One in its first step, and one in the loop."""
    import gevent

    waits: list[str] = []
    with pair() as (ours, theirs):

        def coroutine() -> Coroutine[None]:
            for number in ("first", "second"):
                waits.append(number)
                with pytest.raises(Failed):
                    yield Readable(ours, partial(fail_at, b"a", ours))
                assert ours.gettimeout() == PATIENCE
                gevent.sleep(0.001)
                theirs.sendall(b".")
                yield Readable(ours, Steps(ours))
            waits.append("end")

        CoroutineRunner().spawn(coroutine())
        theirs.sendall(b"a")
        wait_for(lambda: waits == ["first", "second"])
        theirs.sendall(b"a")
        wait_for(lambda: waits == ["first", "second", "end"])


def a_coroutine_goes_on_in_the_same_turn_of_the_loop() -> None:
    import gevent

    order: list[str] = []
    with pair() as (ours, theirs):

        def step() -> bool:
            ours.recv(100)
            gevent.get_hub().loop.run_callback(order.append, "the next turn")
            return False

        def coroutine() -> Coroutine[None]:
            yield Readable(ours, step)
            order.append("the coroutine")

        CoroutineRunner().spawn(coroutine())
        wait_for(lambda: ours.gettimeout() == 0.0)
        theirs.sendall(b"a")
        wait_for(lambda: len(order) == 2)
        assert order == ["the coroutine", "the next turn"]


def the_socket_does_not_block_meanwhile_and_has_its_timeout_back() -> None:
    with pair() as (ours, theirs):
        timeouts = []

        def step() -> bool:
            timeouts.append(ours.gettimeout())
            return ours.recv(100) != b"."

        task = waiting(ours, step)
        theirs.sendall(b".")
        task.join()
        assert timeouts == [0.0, 0.0]
        assert ours.gettimeout() == PATIENCE


def a_coroutine_that_waits_holds_no_greenlet() -> None:
    """The greenlet in which it has run serves the next ones meanwhile."""
    runner = CoroutineRunner()
    with pair() as (ours, theirs), pair() as (another, _):
        task = waiting(ours, Steps(ours), runner)
        other = waiting(another, Steps(another), runner)
        assert other.ran_in == task.ran_in
        theirs.sendall(b".")
        task.join()


def the_greenlets_that_are_kept_end_with_their_runner() -> None:
    runner = CoroutineRunner()
    with pair() as (ours, theirs):
        task = waiting(ours, Steps(ours), runner)
        theirs.sendall(b".")
        task.join()
    kept = weakref.ref(task.ran_in[0])
    assert kept() is not None
    del runner, task
    wait_for_garbage(lambda: kept() is None)


def few_greenlets_are_kept_for_the_next_coroutines() -> None:
    runner, go_on = CoroutineRunner(), threading.Event()

    def step() -> bool:
        return not go_on.is_set() and go_on.wait(PATIENCE)  # and once that is set, wait in the loop

    with ExitStack() as stack:
        pairs = [stack.enter_context(pair()) for _ in range(100)]
        tasks = [Task(ours, step, runner) for ours, _ in pairs]
        wait_for(lambda: all(task.ran_in for task in tasks))
        go_on.set()
        greenlets = {task.ran_in[0] for task in tasks}
        assert len(greenlets) == 100
        wait_for(lambda: 0 < sum(not each.dead for each in greenlets) <= 20)
        for _, theirs in pairs:
            theirs.sendall(b".")
        for task in tasks:
            task.join()


def a_greenlet_in_which_the_application_has_run_is_not_kept() -> None:
    """It may have left a timer there, or values of its own."""
    runner, ran_in = CoroutineRunner(), list[Any]()

    def end(before: Callable[[], object]) -> Coroutine[None]:
        before()
        ran_in.append(current())
        return
        yield

    for before in (gc.isenabled, runner.retire):
        runner.spawn(end(before))
    wait_for(lambda: len(ran_in) == 2)
    assert ran_in[0] is ran_in[1]
    wait_for(lambda: bool(ran_in[1].dead))


def what_is_raised_in_a_kept_greenlet_is_in_no_coroutines_way() -> None:
    import gevent

    runner = CoroutineRunner()
    with pair() as (ours, theirs), pair() as (another, others_peer):
        first = waiting(ours, Steps(ours), runner)
        hub = gevent.get_hub()
        hub.loop.run_callback(first.ran_in[0].throw, gevent.GreenletExit)
        wait_for(lambda: bool(first.ran_in[0].dead))
        second = waiting(another, Steps(another), runner)
        for task, peer in ((first, theirs), (second, others_peer)):
            peer.sendall(b".")
            task.join()


def the_watcher_is_gone_after_the_last_step() -> None:
    import gevent

    with pair() as (ours, theirs):
        active = gevent.get_hub().loop.activecnt
        for end in (b".", b""):
            task = waiting(ours, Steps(ours, end=end))
            if end:
                theirs.sendall(end)
            else:
                theirs.shutdown(socket.SHUT_RDWR)
            task.join()
            assert gevent.get_hub().loop.activecnt == active


# --- many at once, under gevent


def many_that_have_something_to_read_have_turns_and_leave_all_else_its_own() -> None:
    import gevent

    many = Many()
    with many.busy():
        wait_for(lambda: len(many.steps) > 10 * MANY)
        turns = []
        for _ in range(100):
            turns.append(len(many.steps))
            gevent.sleep(0)
        assert set(many.steps[-2 * MANY :]) == set(range(MANY))
    assert 0 < max(later - earlier for earlier, later in pairwise(turns)) < MANY / 2


def steps_that_take_long_do_not_add_up_in_a_turn() -> None:
    """Nor does one go twice before all have gone, nor a light one wait for long."""
    import gevent

    coroutines, order, over = CoroutineRunner(), list[int](), list[bool]()
    with ExitStack() as stack:
        pairs = [stack.enter_context(pair()) for _ in range(21)]

        def step(number: int, sock: socket.socket) -> bool:
            sock.recv(1, socket.MSG_PEEK)
            order.append(number)
            if number and not over:
                end = time.monotonic() + 0.003
                while time.monotonic() < end:
                    pass
            return not over

        for number, (ours, theirs) in enumerate(pairs):
            theirs.sendall(b"x")
            coroutines.spawn(wait(ours, partial(step, number, ours)))
        wait_for(lambda: len(order) > 100)
        turns = []
        for _ in range(50):
            before = len(order)
            gevent.sleep(1e-6)
            turns.append(len(order) - before)
        latest = order[-84:]
        over.append(True)
        wait_for(lambda: all(ours.gettimeout() == PATIENCE for ours, _ in pairs))
    assert max(turns) < 10
    assert {latest.count(number) for number in range(21)} <= {3, 4, 5}


def what_a_reader_holds_is_given_without_another_byte() -> None:
    """And all else has its turn meanwhile."""
    import gevent

    held, turns = list(range(100)), list[int]()
    with pair() as (ours, _theirs):

        def step() -> bool:
            held.pop()
            return bool(held)

        def coroutine() -> Coroutine[None]:
            yield Readable(ours, step, lambda: bool(held))

        CoroutineRunner().spawn(coroutine())
        while held:
            gevent.sleep(1e-6)
            turns.append(len(held))
    assert len(turns) > 30


def one_in_a_hurry_goes_before_all_others() -> None:
    many, seen = Many(), []
    with pair() as (ours, theirs), many.busy():

        def step() -> bool:
            if ours.recv(100):
                return True
            seen.append(len(many.steps))
            return False

        def coroutine() -> Coroutine[None]:
            yield awaited

        awaited = Readable(ours, step)
        many.coroutines.spawn(coroutine())
        wait_for(lambda: ours.gettimeout() == 0.0)
        theirs.shutdown(socket.SHUT_RDWR)
        before = len(many.steps)
        awaited.hurry()
        awaited.hurry()  # as a client may leave that has just stopped the answer
        wait_for(lambda: bool(seen))
        assert seen[0] - before < MANY / 2
        awaited.hurry()  # nobody waits any more
        assert len(seen) == 1


def a_fork_waits_by_itself() -> None:
    coroutines, steps = CoroutineRunner(), list[bytes]()
    with pair() as (ours, theirs):
        coroutines.spawn(wait(ours, lambda: steps.append(ours.recv(100)) is not None))
        wait_for(lambda: ours.gettimeout() == 0.0)

        def claim() -> None:
            with pair() as (own, its):
                end = time.monotonic() + 0.05  # in which its parent would be told as well
                its.sendall(b"x")
                peek = partial(own.recv, 1, socket.MSG_PEEK)
                coroutines.spawn(wait(own, lambda: peek() == b"x" and time.monotonic() < end))
                wait_for(lambda: own.gettimeout() == 0.0)
                wait_for(lambda: own.gettimeout() == PATIENCE)

        in_a_child(claim)
        assert steps == []
        theirs.sendall(b"a")
        wait_for(lambda: steps == [b"a"])


# --- TLS under gevent


@contextmanager
def tls_pair(wrap: Callable[..., Any]) -> Iterator[tuple[Any, ssl.SSLSocket]]:
    """The two ends of TLS; ours as ``wrap`` makes it."""
    import gevent

    ca = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ca.issue_cert("deepseek.example").configure_cert(server)
    ca.configure_trust(client)
    with pair() as (ours, theirs):
        accepting = gevent.spawn(server.wrap_socket, theirs, server_side=True)
        tls = wrap(client, ours)
        peer = accepting.get(timeout=PATIENCE)
        with peer:
            yield tls, peer
        tls.close()


def as_usual(client: ssl.SSLContext, sock: socket.socket) -> Any:
    return client.wrap_socket(sock, server_hostname="deepseek.example")


def within_tls(client: ssl.SSLContext, sock: socket.socket) -> Any:
    """As urllib3 does it behind a proxy that is spoken to in TLS as well."""
    from urllib3.util.ssltransport import SSLTransport

    return SSLTransport(sock, client, server_hostname="deepseek.example")


def check_that_no_record_is_left(wrap: Callable[..., Any]) -> None:
    """With all of it sent before, the operating system tells only once, or of a part."""
    for count in (1, 3):
        with tls_pair(wrap) as (tls, peer):
            steps = Steps(tls, size=10)
            task = waiting(tls, steps)
            for number in range(1, count + 1):
                peer.sendall(b"x" * 104 + (b"." if number == count else b"x"))
            task.join()
            assert b"".join(steps.pieces) == b"x" * (105 * count - 1) + b"."


def what_tls_has_decoded_already_is_taken() -> None:
    check_that_no_record_is_left(as_usual)


def what_tls_within_tls_has_decoded_already_is_taken() -> None:
    check_that_no_record_is_left(within_tls)


def a_body_in_one_record_with_its_head_is_taken() -> None:
    with tls_pair(as_usual) as (tls, peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12000\r\n\r\n" + b"x" * 12_000)
        body, pieces = Response(tls), []
        body.begin()

        def step() -> bool:
            pieces.append(body.receive())
            return not body.complete

        Task(tls, step).join()
        assert b"".join(pieces) == b"x" * 12_000


#: The last one forks.
CLAIMS = [
    the_event_loop_steps_while_the_coroutine_waits,
    what_is_there_already_needs_no_wait,
    nothing_is_read_after_the_last_step,
    errors_of_steps_are_raised_in_the_coroutine_which_may_wait_again,
    a_coroutine_goes_on_in_the_same_turn_of_the_loop,
    the_socket_does_not_block_meanwhile_and_has_its_timeout_back,
    a_coroutine_that_waits_holds_no_greenlet,
    the_greenlets_that_are_kept_end_with_their_runner,
    few_greenlets_are_kept_for_the_next_coroutines,
    a_greenlet_in_which_the_application_has_run_is_not_kept,
    what_is_raised_in_a_kept_greenlet_is_in_no_coroutines_way,
    the_watcher_is_gone_after_the_last_step,
    what_tls_has_decoded_already_is_taken,
    what_tls_within_tls_has_decoded_already_is_taken,
    a_body_in_one_record_with_its_head_is_taken,
    many_that_have_something_to_read_have_turns_and_leave_all_else_its_own,
    steps_that_take_long_do_not_add_up_in_a_turn,
    what_a_reader_holds_is_given_without_another_byte,
    one_in_a_hurry_goes_before_all_others,
    check_contexts,
    a_fork_waits_by_itself,
]


def try_all() -> None:
    """Print of each claim whether it holds, else why it does not."""
    for claim in CLAIMS:
        try:
            claim()
        except BaseException:
            print(claim.__name__, repr(traceback.format_exc()), flush=True)
        else:
            print(claim.__name__, "held", flush=True)


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What came of each claim."""
    lines = Another(UNDER_GEVENT).rest().splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


@pytest.mark.parametrize("claim", [claim.__name__ for claim in CLAIMS])
def test_under_gevent(found: dict[str, str], claim: str) -> None:
    assert found[claim] == "held"
