"""Look-ups of names: bounded in number, and left behind if nobody waits for them any more.

``getaddrinfo`` can't be interrupted, and waits for as long as the system's resolver likes. So it
runs in a thread of its own, and its answer comes through a queue. That is all that is waited for.

Rules:

* At most ``PLACES`` look-ups run at once, counting those that nobody waits for any more. Another
  one waits for a place, first come, first served.
* Whoever wants a name that is being looked up waits for that look-up, if it is not older than
  ``JOINED_SECONDS``. So a name that hangs takes few places, however many ask for it.
* The wait for a place and the look-up together take no longer than the time that is given. An
  abort ends both at once.
* Under gevent the threads are native ones. gevent's own look-ups share ten threads with all else
  that gevent leaves to threads, and ten names that hang would hold up everybody.
* If somebody has replaced ``socket.getaddrinfo``, the replacement is called, as by any other code;
  so is a resolver of gevent's that needs no threads.
"""

from __future__ import annotations

import _socket
import copy
import functools
import ipaddress
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import gevent
import gevent.socket
from gevent import monkey
from gevent.resolver.thread import Resolver as ThreadResolver

from .. import forks
from ..answers.abort import AbortHandle
from ..sockets import Address

#: How many look-ups run at once.
PLACES = 64
#: Seconds in which a look-up is joined: what the system waits before it asks again (resolv.conf).
JOINED_SECONDS = 5.0

_Answer = list[Address] | OSError
_Answers: TypeAlias = "queue.SimpleQueue[_Answer]"


class ThreadedResolver:
    """Finds the addresses of hosts: for the upstreams of an application, or for its runs.

    :param places: how many look-ups run at once.
    """

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        forks.begin(self._set_up)

    def _set_up(self) -> None:
        self._free = self._places
        self._in_line: deque[_LookUp] = deque()
        #: The latest look-up of each name that is looked up, or waits for a place.
        self._latest: dict[tuple[str, int], _LookUp] = {}
        self._lock = threading.Lock()

    def resolve(
        self, handle: AbortHandle, host: str, port: int, timeout: float | None
    ) -> list[Address]:
        """The addresses of a host, in the system's order of preference (RFC 6724).

        :param handle: ends the wait for them.
        :param timeout: seconds; None to wait for as long as it takes.
        :raises Aborted: if the handle's ``abort`` comes first.
        :raises OSError: if the name can't be resolved, or not in time. Its text says why.
        """
        with suppress(ValueError):
            family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
            return [(family, socket.SOCK_STREAM, 0, "", (host, port))]
        try:
            host.encode("idna")  # as getaddrinfo does; here it also loads the codec
        except UnicodeError as error:
            raise OSError(str(error)) from None
        answers: _Answers = queue.SimpleQueue()
        with handle.waiting(functools.partial(answers.put, OSError("aborted"))):
            look_up = self._join(host, port, answers)
            try:
                answer = answers.get(timeout=timeout)
            except queue.Empty:
                late = f"timed out after {timeout:g} s"
                full = f"no place within {timeout:g} s, because other look-ups hang"
                raise OSError(full if look_up.begun_at is None else late) from None
            finally:
                self._leave(look_up, answers)
            if isinstance(answer, OSError):
                raise copy.copy(answer)  # others raise it too
            return [*answer]

    def _join(self, host: str, port: int, answers: _Answers) -> _LookUp:
        """The latest look-up of a name, or a new one, which tells these answers."""
        with self._lock:
            look_up = self._latest.get((host, port))
            if look_up is not None and not look_up.is_old:
                look_up.waiting.append(answers)
                return look_up
            look_up = self._latest[host, port] = _LookUp(host, port)
            look_up.waiting.append(answers)
            if not self._free:
                self._in_line.append(look_up)
                return look_up
            self._free -= 1
        self._run(look_up)
        return look_up

    def _leave(self, look_up: _LookUp, answers: _Answers) -> None:
        with self._lock:
            if answers in look_up.waiting:
                look_up.waiting.remove(answers)

    def _run(self, look_up: _LookUp | None) -> None:
        while look_up is not None:
            look_up.begun_at = time.monotonic()
            try:
                _start(look_up, functools.partial(self._ended, look_up))
            except RuntimeError as error:  # no thread can be started
                self._tell(look_up, OSError(str(error)))
                look_up = self._next()
            else:
                return

    def _ended(self, look_up: _LookUp, answer: _Answer) -> None:
        self._tell(look_up, answer)
        self._run(self._next())

    def _tell(self, look_up: _LookUp, answer: _Answer) -> None:
        with self._lock:
            self._forget(look_up)
            for answers in look_up.waiting:
                answers.put(answer)

    def _forget(self, look_up: _LookUp) -> None:
        if self._latest.get((look_up.host, look_up.port)) is look_up:
            del self._latest[look_up.host, look_up.port]

    def _next(self) -> _LookUp | None:
        """The next look-up in line, which gets the place of one that has ended."""
        with self._lock:
            while self._in_line:
                look_up = self._in_line.popleft()
                if look_up.waiting:
                    return look_up
                self._forget(look_up)
            self._free += 1
        return None


class _LookUp:
    """One look-up, and those who wait for its answer."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        #: By the monotonic clock; None while it waits for a place.
        self.begun_at: float | None = None
        self.waiting: list[_Answers] = []

    @property
    def is_old(self) -> bool:
        """Whether it is not to be joined any more."""
        return self.begun_at is not None and time.monotonic() - self.begun_at > JOINED_SECONDS


def _start(look_up: _LookUp, ended: Callable[[_Answer], None]) -> None:
    """Look a host up in a thread of its own, and call ``ended`` with what came of it.

    Under gevent the event loop calls it, else the thread.

    :raises RuntimeError: if no thread can be started.
    """
    host, port = look_up.host, look_up.port

    def answer_of(getaddrinfo: Callable[..., list[Address]]) -> _Answer:
        try:
            return getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            return error
        except UnicodeError as error:
            return OSError(str(error))

    if _needs_native_threads():
        loop = gevent.get_hub().loop
        start = monkey.get_original("_thread", "start_new_thread")
        start(lambda: loop.run_callback_threadsafe(ended, answer_of(_socket.getaddrinfo)), ())
    else:
        threading.Thread(
            target=lambda: ended(answer_of(socket.getaddrinfo)),
            name="chatproxy-resolve",
            daemon=True,
        ).start()


def _needs_native_threads() -> bool:
    """Whether ``socket.getaddrinfo`` would block other greenlets, or take a thread of gevent's."""
    if not monkey.is_module_patched("socket"):
        return False
    if socket.getaddrinfo is gevent.socket.getaddrinfo:
        return isinstance(gevent.get_hub().resolver, ThreadResolver)
    return socket.getaddrinfo is monkey.get_original("socket", "getaddrinfo")
