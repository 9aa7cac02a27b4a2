"""Look-ups of names: bounded, apart from all else, and left behind at a Stop."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chatproxy import ChatProxy, Run, extension
from chatproxy.answers.abort import AbortHandle
from chatproxy.errors import Aborted
from chatproxy.server import resolver as resolver_module
from chatproxy.server.resolver import PLACES, ThreadedResolver

from .support.another import under_gevent
from .support.instant import HELLO, say
from .support.scripted import Scripted, response
from .support.waiting import PATIENCE, Background, wait_for

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Names:
    """Stands in for the system if a name ends with ".test".

    Those that begin with "hang" hang until the end of the test.
    """

    def __init__(self) -> None:
        self._system = socket.getaddrinfo
        self.asked: list[str] = []
        self.over = threading.Event()

    def __call__(self, host: str, *args: Any, **options: Any) -> list[Any]:
        if not host.endswith(".test"):
            return self._system(host, *args, **options)
        self.asked.append(host)
        if host.startswith("hang"):
            self.over.wait(PATIENCE * 6)
        if host.startswith("none"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return FOUND


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.over.set()


class Asking(Background[Any]):
    """Somebody who waits for a name, in a thread."""

    def __init__(
        self, resolver: ThreadedResolver, host: str, timeout: float = PATIENCE * 3
    ) -> None:
        self.handle = AbortHandle()
        super().__init__(lambda: resolver.resolve(self.handle, host, 443, timeout))

    def stop(self) -> None:
        self.handle.abort()
        with pytest.raises(Aborted):
            self.result()


def hanging(resolver: ThreadedResolver, names: Names, count: int) -> list[Asking]:
    """So many look-ups that hang."""
    asking = [Asking(resolver, f"hang{number}.test") for number in range(count)]
    wait_for(lambda: len(names.asked) >= min(count, PLACES))
    return asking


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_an_address_is_not_looked_up(names: Names, address: str) -> None:
    ((family, *_, found),) = ThreadedResolver().resolve(AbortHandle(), address, 443, 1.0)
    assert (found, names.asked) == ((address, 443), [])
    assert family == (socket.AF_INET6 if ":" in address else socket.AF_INET)


@pytest.mark.parametrize("name", ["none.test", "a" * 64 + ".test", "a..test"])
def test_what_cannot_be_resolved_is_said_in_the_resolvers_words(names: Names, name: str) -> None:
    with pytest.raises(OSError, match=r"not known|label"):
        ThreadedResolver().resolve(AbortHandle(), name, 443, PATIENCE)


def test_look_ups_that_hang_and_were_stopped_do_not_hold_up_the_next(names: Names) -> None:
    """All but one of the places are taken by look-ups that nobody waits for any more."""
    resolver = ThreadedResolver()
    for asking in hanging(resolver, names, PLACES - 1):
        asking.stop()
    assert Asking(resolver, "good.test").result() == FOUND
    assert Asking(resolver, "good.test").result() == FOUND


def test_past_the_bound_a_look_up_waits_for_a_place_and_then_fails_clearly(names: Names) -> None:
    resolver = ThreadedResolver()
    stopped = hanging(resolver, names, PLACES)
    for asking in stopped:
        asking.stop()
    with pytest.raises(OSError, match="no place"):
        Asking(resolver, "good.test", timeout=0.05).result()
    assert "good.test" not in names.asked


def test_a_place_that_gets_free_goes_to_whoever_has_waited_longest(names: Names) -> None:
    """A Stop ends the wait; whoever was stopped is passed over, and no name looked up for them."""
    resolver = ThreadedResolver(places=1)
    first = hanging(resolver, names, 1)[0]
    Asking(resolver, "gone.test").stop()
    second = Asking(resolver, "good.test")
    assert second.still_runs()
    names.over.set()
    assert first.result() == second.result() == FOUND
    assert names.asked == ["hang0.test", "good.test"]
    assert Asking(resolver, "again.test").result() == FOUND


def test_a_name_that_hangs_takes_one_place_however_many_ask_for_it(names: Names) -> None:
    """Those who wait share one look-up, until it has ended; a Stop ends the wait of one of them."""
    resolver = ThreadedResolver(places=2)
    first, *stopped, last = [Asking(resolver, "hang.test") for _ in range(5)]
    for asking in stopped:
        asking.stop()
    assert Asking(resolver, "good.test").result() == FOUND
    names.over.set()
    assert first.result() == last.result() == FOUND
    before = len(names.asked)
    assert Asking(resolver, "hang.test").result() == FOUND
    assert len(names.asked) == before + 1


def test_all_who_share_a_look_up_are_told_that_it_failed(names: Names) -> None:
    resolver = ThreadedResolver(places=1)
    first = hanging(resolver, names, 1)[0]
    asking = [Asking(resolver, "none.test") for _ in range(5)]
    assert asking[-1].still_runs()
    names.over.set()
    assert first.result() == FOUND
    for each in asking:
        with pytest.raises(socket.gaierror, match="not known"):
            each.result()
    assert names.asked.count("none.test") < len(asking)


def test_a_look_up_that_hangs_is_not_joined_for_long(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may be answered at once: a packet can be lost."""
    resolver = ThreadedResolver()
    first = hanging(resolver, names, 1)[0]
    monkeypatch.setattr(resolver_module, "JOINED_SECONDS", 0.0)
    second = Asking(resolver, "hang0.test")
    wait_for(lambda: len(names.asked) == 2)
    names.over.set()
    assert first.result() == second.result() == FOUND


def test_a_look_up_that_takes_too_long_is_given_up_in_time(names: Names) -> None:
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"^timed out after 0\.05 s$"):
        Asking(ThreadedResolver(), "hang.test", timeout=0.05).result()
    assert time.monotonic() - begun < PATIENCE / 2


def test_a_thread_that_cannot_be_started_is_a_failure_and_gives_its_place_back(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver, handle = ThreadedResolver(places=1), AbortHandle()

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        for _ in range(3):
            with pytest.raises(OSError, match="new thread"):
                resolver.resolve(handle, "good.test", 443, PATIENCE)
    assert resolver.resolve(handle, "good.test", 443, PATIENCE) == FOUND


@pytest.mark.usefixtures("_plain_environment")
def test_what_a_run_looks_up_takes_no_place_from_its_upstreams(
    names: Names, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extension, "ThreadedResolver", lambda: ThreadedResolver(places=1))
    hello = response(b"data: %b\n\n" % json.dumps(say("Hello")).encode(), b"data: [DONE]\n\n")
    with Scripted(lambda connection, _: connection.sendall(hello)) as site:
        app = Flask(__name__)
        url = site.url.replace("127.0.0.1", "localhost")
        app.config.update(DEEPSEEK_BASE_URL=url, CHATPROXY_RUN_DIR=str(tmp_path))
        chat = ChatProxy(app)

        @chat.run("fetch")
        def fetch(run: Run, _payload: dict[str, Any]) -> None:
            run.http.get("http://hang.test/")

        with app.app_context():
            fetching = chat.start({**HELLO, "model": "run:fetch"})
            wait_for(lambda: names.asked)
            assert fetching.cancel() is not None
            assert chat.start(HELLO).read() == "Hello"


def the_systems_look_ups_hang() -> Callable[[], None]:
    """Have the system's own function hang for some names; return what lets them go."""
    import _socket

    from gevent import monkey

    lock = monkey.get_original("_thread", "allocate_lock")()
    lock.acquire()

    def getaddrinfo(host: Any, *_: Any, **__: Any) -> list[Any]:
        if str(host).startswith("hang"):
            lock.acquire()
            lock.release()
        return FOUND

    _socket.getaddrinfo = getaddrinfo
    return lock.release


def many_stopped_look_ups() -> None:
    let_go = the_systems_look_ups_hang()
    resolver = ThreadedResolver()
    for count in (12, PLACES - 13):
        stopped = [Asking(resolver, f"hang{number}.test") for number in range(count)]
        time.sleep(0)
        for each in stopped:
            each.stop()
        begun = time.monotonic()
        assert Asking(resolver, "good.test").result() == FOUND
        assert time.monotonic() - begun < PATIENCE / 2
        # Nor is anything else that gevent leaves to threads held up.
        assert socket.getaddrinfo("other.test", 443) == FOUND
    let_go()


def test_under_gevent_hanging_look_ups_hold_up_nobody() -> None:
    """Neither the next question, nor what shares gevent's ten threads."""
    under_gevent(many_stopped_look_ups)


def a_function_in_its_place() -> None:
    socket.getaddrinfo = names = Names()
    resolver = ThreadedResolver()
    for asking in hanging(resolver, names, PLACES - 1):
        asking.stop()
    assert Asking(resolver, "good.test").result() == FOUND


def test_under_gevent_a_function_that_somebody_put_in_place_is_called() -> None:
    under_gevent(a_function_in_its_place)


def an_unpatched_one() -> None:
    from gevent import monkey

    socket.getaddrinfo = monkey.get_original("socket", "getaddrinfo")
    let_go = the_systems_look_ups_hang()
    asking = Asking(ThreadedResolver(), "hang.test")
    time.sleep(0.01)  # the loop goes on
    asking.stop()
    let_go()


def test_a_look_up_that_gevent_has_not_patched_does_not_hold_the_loop() -> None:
    """After ``patch_all(dns=False)``."""
    under_gevent(an_unpatched_one)
