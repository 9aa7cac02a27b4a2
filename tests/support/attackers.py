"""Clients that mean harm: each holds one connection and sends what costs a server most.

They run in threads until they are told to stop, in a process of their own if a test measures.
"""

import contextlib
import json
import socket
import sys
import threading
import time

_POST = b"POST /api/chat/stream HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = _POST + b"X-Session-Id: attack\r\nTransfer-Encoding: chunked\r\n\r\n"
_NOWHERE = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
_NOT_ALLOWED = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
_SMALL_CHUNKS = b"1\r\nx\r\n" * 10_000

#: What is sent first, and what is sent then, without end.
FLOODS = {
    "small chunks": (_CHUNKED, _SMALL_CHUNKS),
    "small chunks without an id": (_POST + b"Transfer-Encoding: chunked\r\n\r\n", _SMALL_CHUNKS),
    "small chunks to nowhere": (_NOWHERE, _SMALL_CHUNKS),
    "small chunks to a 405": (_NOT_ALLOWED, _SMALL_CHUNKS),
    "one endless chunk": (_NOWHERE + b"FFFFFFFFFF\r\n", b"x" * 65536),
    "an endless chunk extension": (_CHUNKED + b"1;", b"a=b;" * 16_384),
    "many chunk extensions": (_CHUNKED, (b"1;" + b"a=b;" * 1000 + b"a=b\r\nx\r\n") * 16),
    "endless trailers": (_CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
    "pipelined requests": (b"", b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000),
    "pipelined Stops": (b"", b"POST /api/chat/cancel/x HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000),
    "an unread body": (_POST + b"Content-Length: 1000000000\r\n\r\n", b"x" * 65536),
    "an unread body to nowhere": (
        b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n",
        b"x" * 65536,
    ),
    "many headers": (_POST, b"A: b\r\n" * 10_000),
    "long headers": (_POST, b"A: " + b"b" * 8000 + b"\r\n"),
    "one header without end": (_POST + b"A: ", b"b" * 65536),
    "a target without end": (b"GET /", b"b" * 65536),
    "empty lines": (b"", b"\r\n" * 30_000),
}


class Attackers:
    """So many connections of one kind, each made again when the server has closed it."""

    def __init__(self, port, attack, count=1, wrap=lambda sock: sock):
        self._port = port
        self._wrap = wrap
        self._over = threading.Event()
        #: How many connections were made, and how many bytes were sent.
        self.connections = self.sent = 0
        self._threads = [
            threading.Thread(target=self._run, args=(attack,), daemon=True) for _ in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self, attack):
        while not self._over.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self._port), timeout=5) as plain,
                self._wrap(plain) as sock,
            ):
                self.connections += 1
                sock.settimeout(1)
                attack(self, sock)

    def go_on(self):
        """Whether the attack is not over yet."""
        return not self._over.is_set()


def flood(first, then):
    """Send without pause, and read nothing until the server closes."""

    def attack(attackers, sock):
        sock.sendall(first)
        while attackers.go_on():
            with contextlib.suppress(TimeoutError):
                attackers.sent += sock.send(then)

    return attack


def drip(first, byte=b"x"):
    """Send a byte at a time, as fast as that goes, each in a packet of its own."""

    def attack(attackers, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(first)
        while attackers.go_on():
            attackers.sent += sock.send(byte)

    return attack


def refused(headers=b"", body=None):
    """Send whole bodies of 1 MiB which are only refused, one after the other."""
    body = body or json.dumps({"messages": [0.5] * 200_000}).encode()[: 1 << 20]
    request = _POST + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def attack(attackers, sock):
        while attackers.go_on():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(request)
            attackers.sent += len(request)
            answer = sock.recv(65536)
            if not answer or b"connection: close" in answer.lower():
                return

    return attack


class Bystander(threading.Thread):
    """Reads a stream, and notes the longest time in which nothing came."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self._socket = client.socket
        self._over = threading.Event()
        self.longest = 0.0

    def run(self):
        last = time.perf_counter()
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                if not self._socket.recv(65536):
                    break
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now

    def finish(self):
        """Stop reading; return the longest gap in seconds."""
        self._over.set()
        self.join(10)
        return self.longest


#: Every attack by its name.
ATTACKS = {
    **{name: flood(*parts) for name, parts in FLOODS.items()},
    "a head byte by byte": drip(b"POST / HTTP/1.1\r\nA: "),
    "a body byte by byte": drip(_POST + b"X-Session-Id: b\r\nContent-Length: 900000\r\n\r\n"),
    "chunks one by one": drip(_CHUNKED, b"1\r\nx\r\n"),
    "1 MiB without an id": refused(),
    "1 MiB with a bad id": refused(b"X-Session-Id: b 1!\r\n"),
    "2 MiB": refused(b"X-Session-Id: b1\r\n", b"x" * (2 << 20)),
    "1 MiB of no JSON": refused(b"X-Session-Id: b1\r\n", b"[" + b"1.5," * 262_000),
}


def main():
    """Attack as the input says: a line ``PORT COUNT NAME`` begins, the next one ends it."""
    for line in iter(sys.stdin.readline, ""):
        port, count, name = line.rstrip("\n").split(" ", 2)
        with Attackers(int(port), ATTACKS[name], int(count)):
            print("began", flush=True)
            sys.stdin.readline()
        print("over", flush=True)


if __name__ == "__main__":
    main()
