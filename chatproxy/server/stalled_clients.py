"""Stalled clients: a client that takes nothing of what is sent to it is disconnected.

Its program may hang, or its network be gone. Whoever writes to it would be blocked for as long as
the system likes.

1. One thread looks at all clients' sockets every few seconds. It asks the system how many bytes
   each has still to take, and how many it has taken so far. So it makes no difference who writes,
   and under which server.
2. A client that had bytes to take for ``timeout`` seconds, and took none, is stalled: its socket is
   shut down. That ends whoever is blocked in writing to it.
3. From then on it is a client that has gone (``disconnect``).

(TCP_USER_TIMEOUT would do the same, but not for Unix sockets.)

A socket is watched from its first stream until its server closes it: the server writes to it once
more when the stream has ended, and may be blocked in that too. Nobody tells of the close. The inode
of a descriptor tells that it is another socket now.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
import threading
import time
from contextlib import suppress

from .. import forks
from ..sockets import plain_socket

#: The longest time between two looks at what the clients take, in seconds.
_LONGEST_PERIOD = 5.0
#: How many clients are looked at before everything else has a turn.
_AT_ONCE = 200
#: ``tcpi_bytes_acked`` in Linux's ``struct tcp_info`` (linux/tcp.h), after 120 bytes of others.
_ACKED = struct.Struct("=120xQ")


def _sent_and_taken(descriptor: int) -> tuple[int, int]:
    """How many bytes the peer of a socket has still to take, and how many it has taken so far.

    The second is 0 if the system does not tell, as for a Unix socket. There the first shows that
    the peer takes something, though in steps of up to some 32 KiB.
    """
    waiting = fcntl.ioctl(descriptor, termios.TIOCOUTQ, struct.pack("i", 0))
    info = b""
    with suppress(OSError, AttributeError), plain_socket(descriptor) as plain:
        info = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size)
    acked = _ACKED.unpack(info)[0] if len(info) == _ACKED.size else 0
    return struct.unpack("i", waiting)[0], acked


class _Flow:
    """What is sent by the socket that a descriptor stands for now."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino
        self._state = (0, 0)
        self._since = 0.0

    @property
    def closed(self) -> bool:
        """Whether the server has closed the socket."""
        try:
            return os.fstat(self._descriptor).st_ino != self._inode
        except OSError:
            return True

    def stalled_since(self, now: float) -> float:
        """Since when there is something to take, and nothing was taken; ``now`` if it flows."""
        try:
            state = _sent_and_taken(self._descriptor)
        except OSError:  # closed just now
            return now
        if not state[0] or state != self._state:
            self._state, self._since = state, now
        return self._since

    def shut(self) -> bool:
        """Shut the socket down, unless the server has closed it; False if it can't be done now."""
        try:
            ours = os.dup(self._descriptor)  # this one can't become another socket
        except OSError as error:
            return error.errno == errno.EBADF
        with suppress(OSError), plain_socket(ours) as plain:
            if os.fstat(ours).st_ino == self._inode:
                # The close discards what was not taken, so that the system need not hold it.
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                plain.shutdown(socket.SHUT_RDWR)
        os.close(ours)
        return True


class StalledClients:
    """Disconnects them, by one thread, which lives while there are any clients.

    :param timeout: seconds for which a client may take nothing.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._period = min(timeout / 4, _LONGEST_PERIOD)
        forks.begin(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._flows: dict[int, _Flow] = {}
        self._runs = False

    def watch(self, descriptor: int) -> None:
        """Look at the client behind this descriptor from now on."""
        with self._lock:
            known = self._flows.get(descriptor)
            if known is None or known.closed:
                self._flows[descriptor] = _Flow(descriptor)
            if not self._runs:
                threading.Thread(target=self._run, name="chatproxy-stalls", daemon=True).start()
                self._runs = True

    def _run(self) -> None:
        while True:
            time.sleep(self._period)
            with self._lock:
                if not self._flows:
                    self._runs = False
                    return
                flows = list(self._flows.items())
            for number, (descriptor, flow) in enumerate(flows, 1):
                if flow.closed or self._shut_if_stalled(flow):
                    with self._lock:
                        if self._flows.get(descriptor) is flow:
                            del self._flows[descriptor]
                if number % _AT_ONCE == 0:
                    time.sleep(0)  # everything else has a turn

    def _shut_if_stalled(self, flow: _Flow) -> bool:
        now = time.monotonic()
        is_stalled = now - flow.stalled_since(now) >= self._timeout
        return is_stalled and flow.shut()
