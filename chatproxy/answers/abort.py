"""AbortHandle: how a call is ended from outside, whatever it waits for.

``response.close()`` can't end a blocked ``requests`` call: under gevent it raises, under threads it
blocks, and before the headers there is no response to close. So nobody closes anything from
outside. Whoever waits says how this wait is ended, by an ``abort_fn`` (the idea is trio's).
``abort`` calls it, and the waiter comes back by itself and closes what it has opened:

    what is waited for                      what its abort_fn does
    the look-up of a name                   puts an answer into the queue
    connections that are being made         shuts their sockets down
    handshakes, the request, the answer     shuts the connection down
    the event loop's next step of a read    has that step taken before others
    the pause before another try            sets an event

Rules:

* A handle belongs to one call or one run, which alone waits: a call in one coroutine, a run in as
  many threads as it has, each wait with an abort_fn of its own. Any thread may call ``abort``,
  ``interrupt`` and ``check``; the rest is the owner's.
* After ``abort`` nothing begins: ``attach`` raises ``Aborted`` from then on. So a moment between
  two waits needs no abort_fn.
* An abort_fn is called under the handle's lock, and not after it is detached. So what it refers
  to, such as a descriptor, may be closed as soon as it is detached, and not before. It must not
  block, raise, or use the handle.
* An abort_fn may be called when its wait has not quite begun. Either that ends the wait all the
  same, as the shutdown of a connected socket does, or the owner calls ``check`` once more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from ..errors import Aborted

AbortFn = Callable[[], None]


class AbortHandle:
    """Ends whatever one call, or one run, waits for.

    :param error: what is raised in its code once ``abort`` has been called.
    """

    __slots__ = ("_abort_fns", "_error", "_lock", "aborted")

    def __init__(self, error: type[BaseException] = Aborted) -> None:
        self._error = error
        self._lock = threading.Lock()
        self._abort_fns: list[AbortFn] = []
        #: Whether ``abort`` has been called. It stays so.
        self.aborted = False

    def abort(self) -> None:
        """End every wait, now and later. Never blocks or raises."""
        with self._lock:
            self.aborted = True
            self._call_all()

    def interrupt(self) -> None:
        """End every present wait. Never blocks or raises.

        The owner may go on: it can still read what had come before its connection was shut down.
        """
        with self._lock:
            self._call_all()

    def check(self) -> None:
        """See that the call is still wanted.

        :raises Aborted: if ``abort`` has been called.
        """
        if self.aborted:
            raise self._error

    def attach(self, abort_fn: AbortFn) -> None:
        """Have ``abort`` call this, too.

        :raises Aborted: if ``abort`` came first.
        """
        with self._lock:
            self.check()
            self._abort_fns.append(abort_fn)

    def detach(self, abort_fn: AbortFn) -> None:
        """Call this no more. Nothing happens if it is not attached."""
        with self._lock:
            if abort_fn in self._abort_fns:
                self._abort_fns.remove(abort_fn)

    def waiting(self, abort_fn: AbortFn) -> AbstractContextManager[None]:
        """Attach an abort_fn for the wait that is the body of this ``with``.

        :raises Aborted: if ``abort`` came before or meanwhile, whatever error came of that.
        """
        return _Waiting(self, abort_fn)

    def sleep(self, seconds: float) -> None:
        """Wait so long.

        :raises Aborted: as soon as ``abort`` is called.
        """
        over = threading.Event()
        with self.waiting(over.set):
            over.wait(seconds)

    def _call_all(self) -> None:
        for abort_fn in self._abort_fns:
            abort_fn()


class _Waiting:
    """A wait with its abort_fn. Each silent stream has one, so it is no generator."""

    __slots__ = ("_abort_fn", "_handle")

    def __init__(self, handle: AbortHandle, abort_fn: AbortFn) -> None:
        self._handle = handle
        self._abort_fn = abort_fn

    def __enter__(self) -> None:
        self._handle.attach(self._abort_fn)

    def __exit__(self, _kind: object, error: BaseException | None, _frames: object) -> None:
        self._handle.detach(self._abort_fn)
        if error is None or isinstance(error, Exception):
            self._handle.check()
