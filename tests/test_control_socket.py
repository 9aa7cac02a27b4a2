"""The control socket: requests and replies, the dead and the frozen, whatever else comes to it."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproxy.answers.session import SessionKey
from chatproxy.cluster.local import messages as messages_module
from chatproxy.cluster.local.control_socket import ControlSocket
from chatproxy.cluster.local.messages import WorkerEnded
from chatproxy.cluster.local.peers import LocalPeers
from chatproxy.cluster.local.run_dir import RunDir
from chatproxy.cluster.peers import Message
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import PeersUnavailable

from .support.another import Another
from .support.descriptors import open_descriptors
from .support.table import sit_down
from .support.waiting import PATIENCE, Background, at_once, wait_for, wait_for_garbage

#: What opens a control socket in another process, and prints its name.
OPEN = """
import os, signal, socket, sys, threading
from chatproxy.errors import PeersUnavailable
from chatproxy.cluster.local.control_socket import ControlSocket
from chatproxy.cluster.local.run_dir import RunDir
from chatproxy.cluster.local.messages import WorkerEnded

class Worker:
    def answer(self, question):
        return {"state": "ready", "pid": os.getpid()}

worker, control = Worker(), ControlSocket(RunDir(sys.argv[1]))
control.serve(worker.answer)
print(control.name, flush=True)
"""


class Worker:
    """Somebody with a control socket, who says back what was asked."""

    def __init__(self, place: Path, state: str = "ready") -> None:
        self.state = state
        self.control = ControlSocket(RunDir(str(place)))
        self.control.serve(self.answer)

    def answer(self, question: Message) -> Message:
        return {"state": self.state, "asked": question}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sockets are."""
    return tmp_path_factory.mktemp("d") / "run"


NewWorker = Callable[..., Worker]


@pytest.fixture
def new_worker(place: Path) -> Iterator[NewWorker]:
    with ExitStack() as stack:

        def make(state: str = "ready") -> Worker:
            worker = Worker(place, state)
            stack.callback(worker.control.close)
            return worker

        yield make


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What threads have ended by."""
    found: list[object] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    return found


def sockets(place: Path) -> set[str]:
    return {each.name for each in place.iterdir() if each.is_socket()}


def unavailable(control: ControlSocket, name: str, seconds: float) -> float:
    """How long it takes to be told that there is no answer."""
    begun = time.monotonic()
    with pytest.raises(PeersUnavailable) as caught:
        control.ask(name, {"ask": "ready"}, seconds)
    assert caught.value.retry_after == 1
    return time.monotonic() - begun


# ---- questions and answers ----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\xf6\u2028\n\r\0", "\ud800", "\U0001f600", "x" * 50_000, '"\\'])
def test_a_worker_is_asked_by_its_name_and_any_text_arrives_as_it_was(
    new_worker: NewWorker, text: str
) -> None:
    one, two = new_worker("one"), new_worker("two")
    question = {"ask": "state", "owner": text, "id": "a"}
    for asking, asked in [(one, two), (two, one), (one, one)]:
        answer = asking.control.ask(asked.control.name, question, 5)
        assert answer == {"state": asked.state, "asked": question}


def test_many_questions_at_once_have_their_own_answers(new_worker: NewWorker) -> None:
    one, two = new_worker(), new_worker()
    questions = [{"number": number} for number in range(100)]
    asking = [partial(one.control.ask, two.control.name, each, PATIENCE) for each in questions]
    assert [answer["asked"] for answer in at_once(*asking)] == questions


def test_a_control_socket_opens_once_it_is_used_in_the_longest_directory_that_is_allowed(
    place: Path,
) -> None:
    place = place.parent / ("x" * (80 - len(os.fsencode(place.parent)) - 1))
    worker = Worker(place)
    assert sockets(place) == set()
    names = {worker.control.name for _ in range(3)}
    assert sockets(place) == names
    assert worker.control.ask(*names, {}, 5)["state"] == "ready"
    worker.control.close()


def test_somebody_is_in_a_state_if_another_says_so(new_worker: NewWorker, place: Path) -> None:
    one = new_worker("ready")
    assert not one.control.is_anyone("ready")
    two = new_worker("draining")
    two.control.open()
    assert not one.control.is_anyone("ready")
    assert one.control.is_anyone("draining")
    two.state = "ready"
    assert one.control.is_anyone("ready")
    two.control.close()
    with frozen(place):
        assert not one.control.is_anyone("ready")


# ---- the dead, the frozen, the confused ---------------------------------------------------------


@contextmanager
def frozen(place: Path, *, full: bool = False) -> Iterator[str]:
    """A worker that listens and never accepts."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(place / "frozen.sock"))
        listener.listen(0)
        with suppress(BlockingIOError):
            while full:
                visitor = stack.enter_context(socket.socket(socket.AF_UNIX))
                visitor.setblocking(False)
                visitor.connect(str(place / "frozen.sock"))
        yield "frozen.sock"


@contextmanager
def answering(place: Path, answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A worker that treats its visitors in its own way."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "strange.sock"))
    listener.listen(8)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    answer(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield "strange.sock"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(PATIENCE)


def test_who_was_never_there_has_closed_or_was_killed_is_gone_at_once(
    new_worker: NewWorker, place: Path
) -> None:
    worker, closed, killed = new_worker(), new_worker(), Another(OPEN + "input()", place)
    names = [closed.control.name, killed.read()]
    assert all(map(worker.control.lives, [worker.control.name, *names]))
    assert worker.control.ask(names[1], {}, 5)["pid"] == killed.process.pid
    closed.control.close()
    killed.kill()
    assert names[1] in sockets(place)
    for name in ["0123.sock", *names]:
        assert not worker.control.lives(name)
        with pytest.raises(WorkerEnded):
            worker.control.ask(name, {}, 5)


@pytest.mark.parametrize("full", [False, True])
def test_who_is_frozen_costs_the_time_that_was_given_and_no_more(
    new_worker: NewWorker, place: Path, full: bool
) -> None:
    worker = new_worker()
    worker.control.open()
    with frozen(place, full=full) as name:
        assert 0.29 < unavailable(worker.control, name, 0.3) < 5
        assert worker.control.lives(name)


def test_a_queue_that_has_room_again_is_entered(new_worker: NewWorker, place: Path) -> None:
    worker = new_worker()
    worker.control.open()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "busy.sock"))
        listener.listen(0)
        filler = socket.socket(socket.AF_UNIX)
        filler.connect(str(place / "busy.sock"))
        asking = Background(lambda: worker.control.ask("busy.sock", {}, PATIENCE))
        assert asking.still_runs()
        filler.close()
        listener.accept()[0].close()
        connection, _ = listener.accept()
        connection.sendall(b'{"state": "active"}\n')
        assert asking.result() == {"state": "active"}
        connection.close()


STRANGE = {
    "nothing": b"",
    "text": b"hello\n",
    "a list": b"[]\n",
    "null": b"null\n",
    "half a line": b'{"state": "active"}',
    "not UTF-8": b'{"state": "\xff"}\n',
    "two lines": b'{"state": "active"}\n{}\n',
    "nested": b"[" * 60_000 + b"\n",
    "digits": b"9" * 60_000 + b"\n",
    "too long": b'{"state": "' + b"x" * 1_100_000 + b'"}\n',
    "endless": b"x" * 200_000,
}


@pytest.mark.parametrize("name", STRANGE)
def test_an_answer_that_is_none_counts_as_no_answer(
    new_worker: NewWorker, place: Path, name: str
) -> None:
    worker = new_worker()
    worker.control.open()
    with answering(place, lambda connection: connection.sendall(STRANGE[name])) as strange:
        assert unavailable(worker.control, strange, PATIENCE) < PATIENCE / 2


def test_an_answer_in_drops_is_not_waited_for_longer_than_any_other(
    new_worker: NewWorker, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive_a_drop(_socket: socket.socket, _size: int) -> bytes:
        time.sleep(0.0005)
        return b" "

    worker = new_worker()
    worker.control.open()
    with frozen(place) as name:
        monkeypatch.setattr(socket.socket, "recv", receive_a_drop)
        assert unavailable(worker.control, name, 0.2) < 10


# ---- whatever comes -----------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ASKED = st.sampled_from(["ready", "state", "cancel", "claim", ""])
QUESTIONS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {}, optional={"ask": ASKED | VALUES, "owner": VALUES, "id": VALUES, "x": VALUES}
    ),
    st.fixed_dictionaries({"ask": ASKED, "owner": TEXTS, "id": TEXTS}),
)
LINES = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda data: data + b"\n"),
    QUESTIONS.map(lambda question: json.dumps(question).encode() + b"\n"),
    QUESTIONS.map(lambda question: json.dumps(question, ensure_ascii=False) + "\n").map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    QUESTIONS.map(lambda question: json.dumps(question).encode("utf-16") + b"\n"),
    st.sampled_from([*STRANGE.values(), b"\n", b"\0\n", b'{"ask": "ready"}\n' * 3]),
)


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Registry, ControlSocket, Path]]:
    """A whole worker with one session, its control, and its address."""
    place = tmp_path_factory.mktemp("d")
    place.chmod(0o700)
    control = ControlSocket(RunDir(str(place)))
    peers = LocalPeers(control, "app")
    registry = sit_down(Registry(Settings(), object(), peers), peers)
    registry.claim(SessionKey("ada", "session_1"))
    yield registry, control, place / control.name
    control.close()


@settings(max_examples=50)
@given(data=LINES, politely=st.booleans())
def test_whatever_comes_to_the_socket_is_answered_or_dropped(
    registry: tuple[Registry, ControlSocket, Path], data: bytes, politely: bool
) -> None:
    found: list[object] = []
    usual, threading.excepthook = threading.excepthook, found.append
    try:
        _, control, address = registry
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(PATIENCE)
            visitor.connect(str(address))
            with suppress(BrokenPipeError, ConnectionResetError):
                visitor.sendall(data)
                if politely:
                    visitor.shutdown(socket.SHUT_WR)
                    received = b"".join(iter(lambda: visitor.recv(65536), b""))
                    assert not received or isinstance(json.loads(received)["state"], str)
        assert control.ask(control.name, {"ask": "ready"}, PATIENCE) == {"state": "ready"}
    finally:
        threading.excepthook = usual
    assert found == []
    (session,) = registry[0].live()
    assert not session.flag.is_set()


def test_who_comes_and_says_nothing_holds_nobody_up_and_is_sent_away(
    new_worker: NewWorker,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    crashes: list[object],
) -> None:
    monkeypatch.setattr(messages_module, "PATIENCE", 0.3)
    one, two = new_worker(), new_worker()
    with ExitStack() as stack:
        visitors = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(20)]
        for visitor in visitors:
            visitor.settimeout(PATIENCE)
            visitor.connect(str(place / one.control.name))
            visitor.sendall(b'{"ask": ')
        assert two.control.ask(one.control.name, {}, PATIENCE)["state"] == "ready"
        assert {visitor.recv(1) for visitor in visitors} == {b""}
    assert crashes == []


def test_the_control_socket_stays_open_when_descriptors_are_short(
    new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch, crashes: list[object]
) -> None:
    accept = socket.socket.accept
    shortages = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]

    def accept_if_possible(self: socket.socket) -> tuple[socket.socket, object]:
        if shortages:
            raise OSError(shortages.pop(), "short")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", accept_if_possible)
    one, two = new_worker(), new_worker()
    one.control.open()
    assert two.control.ask(one.control.name, {}, PATIENCE)["state"] == "ready"
    assert (shortages, crashes) == ([], [])


def test_the_control_socket_stays_open_when_threads_are_short(
    new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch, crashes: list[object]
) -> None:
    start = threading.Thread.start
    shortages = [1, 1]

    def start_if_possible(self: threading.Thread) -> None:
        if self.name == "chatproxy-reply" and shortages:
            shortages.pop()
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_if_possible)
    one, two = new_worker(), new_worker()
    one.control.open()
    for _ in range(2):
        unavailable(two.control, one.control.name, PATIENCE)
    assert two.control.ask(one.control.name, {}, PATIENCE)["state"] == "ready"
    assert (shortages, crashes) == ([], [])


def test_without_descriptors_the_others_are_unavailable_and_that_is_all(place: Path) -> None:
    script = """
import contextlib, os, resource
from chatproxy.cluster.local.peers import LocalPeers
peers, unopened = LocalPeers(control, "app"), ControlSocket(RunDir(sys.argv[1]))
unopened.serve(worker.answer)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.dup(0))
for attempt in (
    lambda: control.ask(control.name, {}, 1),
    lambda: peers.ask(control.name, {}, 1),
    lambda: unopened.name,
    lambda: LocalPeers(unopened, "app").take(("a",)),
):
    try:
        print(attempt())
    except PeersUnavailable:
        print("unavailable")
print(peers.free([("a",)]))
for descriptor in taken:
    os.close(descriptor)
print(peers.ask(control.name, {}, 20)["state"], peers.take(("a",)))
control.close()
unopened.close()
"""
    process = Another(OPEN + script, place)
    process.read()
    assert process.rest().split() == ["unavailable"] * 4 + ["None", "ready", "None"]


# ---- to sweep -----------------------------------------------------------------------------------


def test_whoever_opens_sweeps_what_the_dead_have_left_and_a_sweep_also_what_leads_nowhere(
    new_worker: NewWorker, place: Path
) -> None:
    worker, newcomer = new_worker(), new_worker()
    process = Another(OPEN + "input()", place)
    dead = process.read()
    process.kill()
    (place / "of-dead").symlink_to(dead)
    (place / "of-nobody").symlink_to("0123.sock")
    (place / "no-socket.sock").touch()
    (place / "of-living").symlink_to(worker.control.name)
    (place / "note").touch()
    (place / "aside").symlink_to("note")
    with frozen(place) as name:
        (place / "of-frozen").symlink_to(name)
        stay = {worker.control.name, "of-living", name, "of-frozen", "note", "aside"}
        stay.add(newcomer.control.name)
        assert {each.name for each in place.iterdir()} == {*stay, "of-nobody"}
        worker.control.sweep()
        assert {each.name for each in place.iterdir()} == stay


def test_a_sweep_and_a_close_wait_for_whoever_opens_a_control_socket(
    new_worker: NewWorker, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is there but does not listen yet looks like that of the dead."""
    stays, leaves, comes = (new_worker() for _ in range(3))
    stays.control.open()
    leaves.control.open()
    listen, waiting = socket.socket.listen, list[Background[None]]()

    def listen_late(self: socket.socket, backlog: int) -> None:
        waiting.extend(Background(each) for each in (stays.control.sweep, leaves.control.close))
        assert all(each.still_runs() for each in waiting)
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen_late)
    comes.control.open()
    for each in waiting:
        each.result()
    assert sockets(place) == {stays.control.name, comes.control.name}


# ---- to close -----------------------------------------------------------------------------------


def test_to_close_removes_the_socket_and_what_leads_there_if_there_is_any(place: Path) -> None:
    unopened, one, two = (Worker(place) for _ in range(3))
    unopened.control.close()
    assert list(place.iterdir()) == []
    for worker in (one, two):
        (place / f"of-{worker.control.name}").symlink_to(worker.control.name)
    one.control.close()
    one.control.close()
    name = two.control.name
    assert {each.name for each in place.iterdir()} == {name, f"of-{name}"}
    shutil.rmtree(place)
    two.control.close()


def test_an_application_that_nobody_needs_leaves_nothing(place: Path) -> None:
    def use(session_id: str) -> None:
        control = ControlSocket(RunDir(str(place)))
        peers = LocalPeers(control, "app")
        registry = sit_down(Registry(Settings(), object(), peers), peers)
        registry.claim(SessionKey("", session_id))
        assert control.ask(control.name, {"ask": "ready"}, PATIENCE) == {"state": "ready"}

    gc.collect()
    threads = set(threading.enumerate())
    descriptors = set(os.listdir("/proc/self/fd"))
    for number in range(3):
        use(f"session_{number}")
    wait_for_garbage(lambda: list(place.iterdir()) == [])
    wait_for(lambda: set(threading.enumerate()) <= threads)
    wait_for(lambda: set(os.listdir("/proc/self/fd")) <= descriptors)


def test_a_socket_that_cannot_listen_is_closed(
    new_worker: NewWorker, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_socket: socket.socket, _backlog: int) -> NoReturn:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    worker = new_worker()
    monkeypatch.setattr(socket.socket, "listen", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(PeersUnavailable):
            worker.control.open()
        gc.collect()
    assert [each for each in caught if each.category is ResourceWarning] == []
    monkeypatch.undo()
    assert worker.control.ask(worker.control.name, {}, PATIENCE)["state"] == "ready"
    assert sockets(place) == {worker.control.name}


def test_a_control_socket_that_cannot_be_opened_leaves_nothing_open(
    new_worker: NewWorker, place: Path
) -> None:
    worker, another = new_worker(), RunDir(str(place))
    before = open_descriptors()
    with another.locked(), pytest.raises(PeersUnavailable):
        worker.control.open()
    place.rmdir()
    place.touch()
    with pytest.raises(PeersUnavailable):
        worker.control.open()
    place.unlink()
    assert open_descriptors() == before
    assert worker.control.ask(worker.control.name, {}, PATIENCE)["state"] == "ready"


# ---- forks --------------------------------------------------------------------------------------


def test_a_fork_has_a_control_socket_of_its_own_and_leaves_that_of_its_parent(
    new_worker: NewWorker, place: Path
) -> None:
    script = """
child = os.fork()
if child == 0:
    control.close()
    print(control.name, flush=True)
    input()
    control.close()
    os._exit(0)
os.waitpid(child, 0)
print("over", flush=True)
input()
"""
    process, worker = Another(OPEN + script, place), new_worker()
    try:
        of_parent, of_child = process.read(), process.read()
        asked = [worker.control.ask(name, {}, PATIENCE)["pid"] for name in (of_parent, of_child)]
        assert asked[0] == process.process.pid != asked[1]
        process.tell()
        assert process.read() == "over"
        assert not worker.control.lives(of_child)
        assert worker.control.ask(of_parent, {}, PATIENCE)["pid"] == process.process.pid
    finally:
        process.kill()


def test_a_fork_that_outlives_a_worker_does_not_seem_to_be_it(
    new_worker: NewWorker, place: Path
) -> None:
    """As the processes of a pool do, when gunicorn kills the worker that has made them."""
    script = """
child = os.fork()
if child == 0:
    for number in (0, 1, 2):
        os.close(number)
    signal.pause()
print(child, flush=True)
input()
"""
    process, worker = Another(OPEN + script, place), new_worker()
    name, child = process.read(), int(process.read())
    try:
        assert worker.control.lives(name)
        process.kill()
        wait_for(lambda: not worker.control.lives(name))
    finally:
        os.kill(child, 9)


def test_names_are_not_used_twice(place: Path) -> None:
    """Whoever holds a name of somebody who has ended must not take another for him."""
    workers = [Worker(place) for _ in range(20)]
    names = set()
    for worker in workers:
        names.add(worker.control.name)
        worker.control.close()
    assert len(names) == 20
