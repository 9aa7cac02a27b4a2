"""Look-ups of names: bounded in number, and left behind if nobody waits for them any more.

``getaddrinfo`` can't be interrupted, and waits for as long as the system's resolver likes. So it
runs in a thread of its own, and its answer comes through a queue. That is all that is waited for.

Rules:

* At most ``PLACES`` look-ups run at once, counting those that nobody waits for any more. Another
  one waits for a place, first come, first served.
* The wait for a place and the look-up together take no longer than the time that is given. An
  abort ends both at once.
* Under gevent the threads are native ones. gevent's own look-ups share ten threads with all else
  that gevent leaves to threads, and ten names that hang would hold up everybody.
* If somebody has replaced ``socket.getaddrinfo``, the replacement is called, as by any other code;
  so is a resolver of gevent's that needs no threads.
"""

from __future__ import annotations

import _socket
import functools
import ipaddress
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import gevent
import gevent.socket
from gevent import monkey
from gevent.resolver.thread import Resolver as ThreadResolver

from .. import forks
from ..answers.abort import AbortHandle
from ..sockets import Address

#: How many look-ups run at once.
PLACES = 64

_Answer = list[Address] | OSError


class ThreadedResolver:
    """Finds the addresses of hosts, for all calls of one application.

    :param places: how many look-ups run at once.
    """

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._set_up()
        forks.begin_again(self._set_up)

    def _set_up(self) -> None:
        self._free = self._places
        self._waiting: deque[_LookUp] = deque()
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
        look_up = _LookUp(host, port)
        with handle.waiting(look_up.abandon):
            self._begin(look_up)
            return look_up.wait(timeout)

    def _begin(self, look_up: _LookUp) -> None:
        with self._lock:
            if not self._free:
                self._waiting.append(look_up)
                return
            self._free -= 1
        self._run(look_up)

    def _run(self, look_up: _LookUp | None) -> None:
        while look_up is not None:
            look_up.begun = True
            try:
                _start(look_up, functools.partial(self._ended, look_up))
            except RuntimeError as error:  # no thread can be started
                look_up.tell(OSError(str(error)))
                look_up = self._next()
            else:
                return

    def _ended(self, look_up: _LookUp, answer: _Answer) -> None:
        look_up.tell(answer)
        self._run(self._next())

    def _next(self) -> _LookUp | None:
        """The next look-up in line, which gets the place of one that has ended."""
        with self._lock:
            while self._waiting:
                look_up = self._waiting.popleft()
                if look_up.wanted:
                    return look_up
            self._free += 1
        return None


class _LookUp:
    """One look-up, and the wait for its answer."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.begun = False
        self.wanted = True
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()

    def tell(self, answer: _Answer) -> None:
        self._answers.put(answer)

    def abandon(self) -> None:
        """End the wait."""
        self.wanted = False
        self.tell(OSError("aborted"))

    def wait(self, timeout: float | None) -> list[Address]:
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            self.wanted = False
            late = f"timed out after {timeout:g} s"
            full = f"no place within {timeout:g} s, because other look-ups hang"
            raise OSError(late if self.begun else full) from None
        if isinstance(answer, OSError):
            raise answer
        return answer


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
