"""A server that is told to stop lets running answers end, and can still be told to stop them."""

import json
import os
import signal
import sys
import threading
import weakref
from functools import partial
from pathlib import Path

import pytest

from chatproxy.answers.drain import Drain
from chatproxy.errors import PeersUnavailable
from chatproxy.server.shutdown import Shutdown

from .support.another import Another, under_gevent
from .support.servers import ask, events, new_id
from .support.waiting import PATIENCE, Background, wait_for, wait_for_garbage


def test_what_still_runs_after_the_grace_time_is_stopped_and_told(own_proxy, deepseek):
    """Under threads; ``test_faults`` has it under gevent, with answers that end and a Stop."""
    proxy = own_proxy("gunicorn-threads", CHATPROXY_GRACE=0.5)
    session_id = new_id()
    client = proxy.start(session_id, simulate={"tag": session_id, "rate": 20, "tokens": 10_000})
    client.read_until(b"id: 2\n")
    proxy.process.send_signal(signal.SIGTERM)
    stopped, done = events(client.read_answer()[1])[-2:]
    assert json.loads(stopped["data"])["reason"] == "shutdown"
    assert done["data"] == "[DONE]"
    deepseek.gone(session_id)
    assert proxy.process.wait(10) == 0
    assert proxy.lines(f"{session_id} ended outcome=stopped")


def test_a_server_that_exits_at_once_closes_and_logs_every_answer(own_proxy, deepseek):
    proxy = own_proxy()
    ids = [new_id() for _ in range(3)]
    for session_id in ids:
        proxy.start(session_id, simulate={"tag": session_id, "never": "tokens"})
        deepseek.entry(session_id)
    assert proxy.stop(signal.SIGINT) == 0
    for session_id in ids:
        deepseek.gone(session_id)
        assert proxy.lines(f"{session_id} ended outcome=stopped")
    assert "Traceback" not in proxy.log()


def test_the_application_can_keep_what_came_until_the_shutdown(own_proxy, deepseek, tmp_path):
    """A receiver that takes its time, as a database does, is waited for."""
    kept = tmp_path / "kept"
    proxy = own_proxy(CHATPROXY_GRACE=0.2, TEST_KEEP_IN=str(kept))
    client = proxy.start(new_id(), simulate={"rate": 50, "tokens": 10_000})
    client.read_until(b"id: 5\n")
    assert proxy.stop() == 0
    assert Path(kept).read_text().startswith("stopped amber birch")


@pytest.mark.slow
def test_a_worker_whose_loop_a_run_keeps_is_replaced_though_answers_run(own_proxy):
    proxy = own_proxy(options=["--timeout", "2"], TEST_RUNS=1)
    proxy.start(new_id(), simulate={"never": "tokens"})
    proxy.start(new_id(), "runs/greedy").read_until(b"event: begun")
    wait_for(lambda: proxy.log().count("Booting worker") == 2)
    assert ask(proxy, simulate={"rate": 0, "tokens": 1}).ok


# ---- the signal, without a server ---------------------------------------------------------------


class ToldDrain(Drain):
    """A drain that notes when it begins, waits for something, and may fail."""

    def __init__(self, told, wait, error):
        super().__init__()
        self._told = told
        self._wait_for_all = wait
        self._error = error

    def run(self, grace):
        self._told.append("drain")
        self._wait_for_all()
        super().run(grace)
        if self._error:
            raise self._error


@pytest.fixture
def told():
    """What was called, in its order; the server's own handler of SIGTERM is "server"."""
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("server"))
    yield told
    signal.signal(signal.SIGTERM, before)


def fail(*_):
    raise PeersUnavailable("The run directory cannot be used.")


def listen(told, *, others=list, is_ready=lambda: False, wait=int, error=None):
    drain = ToldDrain(told, wait, error)
    shutdown = Shutdown(drain, others=others, is_another_ready=is_ready, close=[], grace=0.1)
    shutdown.listen()
    return shutdown


@pytest.mark.parametrize("asked", [{}, {"others": fail, "is_ready": fail}])
def test_a_worker_that_is_alone_drains_before_the_server_hears_of_the_signal(told, asked):
    """So does one that can't ask the others, as it has no run directory: all would be cut off."""
    _kept = listen(told, **asked)
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: "server" in told)
    assert told == ["drain", "server"]


def test_a_worker_that_is_replaced_already_drains_when_the_server_has_closed_its_socket(told):
    _kept = listen(told, others=lambda: ["new"], is_ready=lambda: True)
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: len(told) == 2)
    assert told == ["server", "drain"]


def test_the_server_hears_of_the_signal_though_the_drain_fails(told, monkeypatch):
    failures = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: failures.append(str(what.exc_value)))
    _kept = listen(told, error=RuntimeError("the drain failed"))
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: failures and "server" in told)
    assert failures == ["the drain failed"]
    assert told == ["drain", "server"]


def test_an_application_that_is_garbage_is_neither_kept_alive_nor_waited_for(told):
    shutdown = weakref.ref(listen(told))
    wait_for_garbage(lambda: shutdown() is None)
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: told == ["server"])


def the_server_ends_the_process() -> None:
    """In a greenlet that takes whatever is raised for an error of its own, and goes on."""
    went_on = []

    def run(number):
        try:
            os.kill(os.getpid(), number)
        except BaseException as error:
            went_on.append(error)

    signal.signal(signal.SIGABRT, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been begun without
    _kept = listen([]), listen([])
    for number, error in ((signal.SIGABRT, SystemExit), (signal.SIGINT, KeyboardInterrupt)):
        with pytest.raises(error):
            Background(lambda number=number: run(number)).result()
    assert went_on == []


def test_a_process_that_is_to_end_at_once_does_so_whichever_greenlet_runs():
    under_gevent(the_server_ends_the_process)


@pytest.mark.parametrize("again", [1, 3])
def test_a_signal_that_comes_again_while_answers_run_cuts_nothing_off(told, again):
    """A supervisor may send it to all processes, gunicorn's master then to its workers."""
    gate = threading.Event()
    _kept = listen(told, wait=gate.wait)
    for _ in range(again):
        os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: told == ["drain"])
    os.kill(os.getpid(), signal.SIGTERM)
    gate.set()
    wait_for(lambda: told == ["drain", "server"])
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: told == ["drain", "server", "server"])


def test_the_applications_of_a_process_end_at_the_same_time(told):
    both = threading.Barrier(2)
    _kept = [listen(told, wait=partial(both.wait, PATIENCE)) for _ in range(2)]
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: "server" in told)
    assert told == ["drain", "drain", "server"]


def test_the_server_hears_early_only_if_all_applications_are_replaced(told):
    gate = threading.Event()
    new = {"others": lambda: ["new"], "is_ready": lambda: True}
    _kept = [listen(told, wait=gate.wait, **new), listen(told, wait=gate.wait)]
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: told == ["drain", "drain"])
    gate.set()
    wait_for(lambda: told == ["drain", "drain", "server"])


ENDED = """
import os, signal, sys, threading
from tests.test_shutdown import listen
told, others = [], sys.argv[1:]
def end(*_):
    told.append("server")
    sys.exit()
signal.signal(signal.SIGTERM, end)
kept = listen(told, others=lambda: others, is_ready=lambda: others)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(60)
except SystemExit:
    print(*told)
"""


@pytest.mark.parametrize("kind", ["threads", "gevent"])
@pytest.mark.parametrize(("others", "order"), [([], "drain server"), (["new"], "server drain")])
def test_a_handler_that_exits_does_so_in_the_main_thread_after_the_drain(kind, others, order):
    """As ``signal.signal(SIGTERM, lambda *_: sys.exit(0))`` does, the usual line of a container."""
    assert Another(ENDED, *others, prepared=kind).rest() == f"{order}\n"
