"""An upstream on real sockets that sends whatever a test wants, to whatever it was asked."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

#: What is sent in answer to a request's body; it is given the connection and the body.
Answer = Callable[[socket.socket, bytes], None]


class Scripted:
    """Listens, and serves each connection in a thread, request by request, one after the other.

    :param answer: sends what it likes; that the peer has left ends the connection.
    """

    def __init__(self, answer: Answer) -> None:
        #: May be replaced.
        self.answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._connections: list[socket.socket] = []
        #: The bodies of all requests, in order.
        self.asked: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return len(self._connections)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for body in requests_on(connection):
                self.asked.append(body)
                self.answer(connection, body)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class Repeating(Scripted):
    """Sends the same blocks to whoever asks; then it is done, falls silent, or breaks off."""

    def __init__(self, *blocks: bytes) -> None:
        super().__init__(self._repeat)
        self.status = b"200 OK"
        self.blocks = [*blocks]
        self.end = "done"
        #: An empty piece for each silent connection that the other side has closed.
        self.left: queue.Queue[bytes] = queue.Queue()

    def _repeat(self, connection: socket.socket, _body: bytes) -> None:
        body = b"".join(block + b"\n\n" for block in self.blocks)
        events = [body] if body else []  # in one chunk, so that all come at once
        connection.sendall(unfinished(*events, status=self.status))
        if self.end == "done":
            connection.sendall(b"0\r\n\r\n")
        elif self.end == "silence":
            self.left.put(connection.recv(1))
        else:
            connection.close()

    @property
    def received(self) -> list[dict[str, Any]]:
        """What was asked."""
        return [json.loads(body) for body in self.asked]


def requests_on(connection: socket.socket) -> Iterator[bytes]:
    """The bodies of the requests on a connection, up to its end."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            if not (piece := connection.recv(65536)):
                return
            data += piece
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        while len(data) < length:
            if not (piece := connection.recv(65536)):
                return
            data += piece
        yield data[:length]
        data = data[length:]


def chunk(content: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def response(*events: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole response in the chunked coding, as DeepSeek sends it."""
    return unfinished(*events, status=status) + b"0\r\n\r\n"


def unfinished(*events: bytes, status: bytes = b"200 OK") -> bytes:
    """The same without its last chunk."""
    head = b"HTTP/1.1 %b\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return b"".join([head % status, *map(chunk, events)])
