"""Attackers, each kind in a process of its own: ``python -m benchmarks.attackers KIND``.

A process attacks one port of the loopback interface for a bounded time, with a bounded number of
connections, and gives way to everybody else who wants its core. A connection that the server closes
is opened again, at most a hundred times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from tests.support.servers import ROOT, chat, clean_environment

from .load import TOKEN, new_id

_PAUSE = 0.01
_LONGEST = 60.0
_MIB = 1 << 20
_NARROW = 4096  # the receive buffer of who takes nothing


@dataclass(frozen=True)
class Target:
    """What is attacked, and until when by the monotonic clock.

    :param read_by_others: the session id of an answer that somebody reads.
    :param event: the number of an event of it that came some time ago.
    """

    port: int
    until: float
    read_by_others: str
    event: int

    def goes_on(self) -> bool:
        return time.monotonic() < self.until

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(5)
        sock.connect(("127.0.0.1", self.port))
        return sock


def _head(line: str, *headers: str, token: str = TOKEN) -> bytes:
    authorization = [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join(
        [f"{line} HTTP/1.1", "Host: localhost", *authorization, *headers, "", ""]
    ).encode()


def _post(
    *headers: str, path: str = "/api/chat/stream", session_id: str = "", token: str = TOKEN
) -> bytes:
    session = f"X-Session-Id: {session_id or new_id()}"
    kind = "Content-Type: application/json"
    return _head(f"POST {path}", session, kind, *headers, token=token)


def _pour(target: Target, head: bytes, block: bytes) -> None:
    """Send ``head``, then ``block`` without end, and read what comes; again, if it is closed."""
    while target.goes_on():
        with suppress(OSError), target.connect() as sock:
            sock.sendall(head)
            _pour_into(target, sock, block)
        time.sleep(_PAUSE)


def _pour_into(target: Target, sock: socket.socket, block: bytes) -> None:
    sock.setblocking(False)
    rest = memoryview(block)
    while target.goes_on():
        readable, writable, _ = select.select([sock], [sock], [], 0.1)
        if readable and not sock.recv(65536):
            return
        if writable:
            rest = rest[sock.send(rest) :] or memoryview(block)


def _chunks(path: str) -> Callable[[Target], None]:
    head = _post("Transfer-Encoding: chunked", path=path)
    return lambda target: _pour(target, head, b"1\r\nx\r\n" * 10_000)


def _chunk_extensions(target: Target) -> None:
    extended = b"1;" + b"x=y;" * 1000 + b"\r\nx\r\n"
    _pour(target, _post("Transfer-Encoding: chunked"), extended * 16)


def _pipelined(target: Target) -> None:
    _pour(target, b"", _head("GET /healthz") * 1000)


def _unread_body(target: Target) -> None:
    _pour(target, _post("Content-Length: 1000000000", path="/nothing"), bytes(_MIB))


def _headers(target: Target) -> None:
    line = "X-Flood-{}: " + "x" * 8000 + "\r\n"
    flood = "".join(line.format(number) for number in range(90)).encode()
    _pour(target, _head("GET /healthz")[:-2], flood)


def _refused(head: Callable[[int], bytes]) -> Callable[[Target], None]:
    """Send 1 MiB of floats again and again, each time on a connection of its own."""

    def send(target: Target) -> None:
        numbers = b"0.123456789," * (_MIB // 12 - 4)
        body = b'{"numbers":[%b0.1]}' % numbers
        request = head(len(body)) + body
        while target.goes_on():
            with suppress(OSError), target.connect() as sock:
                sock.sendall(request)
                while sock.recv(65536):
                    pass
            time.sleep(_PAUSE)

    return send


def _with_length(session_id: str = "", token: str = TOKEN) -> Callable[[int], bytes]:
    def head(length: int) -> bytes:
        headers = ("Connection: close", f"Content-Length: {length}")
        return _post(*headers, session_id=session_id, token=token)

    return head


def _half_bodies(target: Target) -> None:
    """Keep 310 connections open that have sent a part of what they said they would."""
    request = _post("Content-Length: 1000") + b'{"messages":'
    with _held() as held:
        while target.goes_on():
            if len(held) < 310:
                with suppress(OSError):
                    held.append(target.connect())
                    held[-1].sendall(request)
                continue
            closed, _, _ = select.select(held, [], [], 0.1)
            for sock in closed:
                held.remove(sock)
                sock.close()


def _readers_of_ended(target: Target) -> None:
    """Have 10 answers of 1 MB, and read each of them 3 times again without taking anything."""
    ended = [new_id() for _ in range(10)]
    for session_id in ended:
        body = json.dumps(chat(simulate={"rate": 0, "tokens": 50, "text": "x" * 20_000})).encode()
        with suppress(OSError), target.connect() as sock:
            sock.sendall(_with_length(session_id)(len(body)) + body)
            while target.goes_on() and sock.recv(1 << 18):
                pass
    with _held() as held:
        for session_id in ended * 3:
            _take_nothing(target, session_id, held)
        while target.goes_on():
            time.sleep(0.1)


def _second_reader(target: Target) -> None:
    """Read what somebody else reads, and take nothing."""
    event = target.event
    with _held() as held:
        while target.goes_on():
            status = _take_nothing(target, target.read_by_others, held, event)
            if status == b"200":
                break
            # 410: it is not held any more; 400: it has not come yet.
            event = max(0, event + {b"410": 8, b"400": -3}.get(status, 0))
            time.sleep(_PAUSE)
        while target.goes_on():
            time.sleep(0.1)


def _take_nothing(
    target: Target, session_id: str, held: list[socket.socket], after: int = 0
) -> bytes:
    """Ask for an answer, and read but the status."""
    with suppress(OSError):
        held.append(target.connect(_NARROW))
        held[-1].sendall(_head(f"GET /api/chat/stream/{session_id}", f"Last-Event-ID: {after}"))
        return held[-1].recv(12)[9:]
    return b""


@contextmanager
def _held() -> Iterator[list[socket.socket]]:
    held: list[socket.socket] = []
    try:
        yield held
    finally:
        for sock in held:
            sock.close()


#: Each kind of attack: what it is called, how many do it at once, and what each of them does.
KINDS: dict[str, tuple[str, int, Callable[[Target], None]]] = {
    "chunks": ("endless chunks of 1 byte", 1, _chunks("/api/chat/stream")),
    "chunks-404": ("the same to no route at all", 1, _chunks("/nothing")),
    "extensions": ("chunk extensions", 1, _chunk_extensions),
    "pipelined": ("pipelined requests", 1, _pipelined),
    "unread": ("1 GB to no route at all", 1, _unread_body),
    "headers": ("header floods", 4, _headers),
    "floats": ("4 senders of 1 MiB of floats", 4, _refused(_with_length())),
    "wrong-id": ("4 of 1 MiB, a wrong id", 4, _refused(_with_length("a b"))),
    "no-token": ("4 of 1 MiB, no token", 4, _refused(_with_length(token=""))),
    "half-bodies": ("310 bodies that never end", 1, _half_bodies),
    "ended": ("30 stalled readers of ended answers", 1, _readers_of_ended),
    "second-reader": ("a stalled second reader", 1, _second_reader),
}


@asynccontextmanager
async def attacking(
    kinds: Sequence[str], port: int, seconds: float, read_by_others: str = "-", event: int = 0
) -> AsyncIterator[None]:
    """Attack meanwhile, for so many seconds at the most."""
    if not kinds:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.attackers", *kinds, "--port", str(port)]
    command += ["--seconds", str(seconds), "--read-by-others", read_by_others]
    command += ["--event", str(event)]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()  # they have begun
        yield
    finally:
        with suppress(ProcessLookupError):  # all have ended by themselves
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _attack(kind: str, target: Target) -> None:
    """Attack in so many threads as the kind wants."""
    os.nice(19)
    _, number, attack = KINDS[kind]
    for _ in range(number):
        threading.Thread(target=attack, args=[target], daemon=True).start()
    while target.goes_on():
        time.sleep(0.1)


def main() -> None:
    """Attack for a while, each kind in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--read-by-others", default="-")
    parser.add_argument("--event", type=int, default=0)
    options = parser.parse_args()
    until = time.monotonic() + min(options.seconds, _LONGEST)
    target = Target(options.port, until, options.read_by_others, options.event)
    forked = multiprocessing.get_context("fork")
    for kind in options.kinds:
        forked.Process(target=_attack, args=[kind, target]).start()
    print("attacking", flush=True)
    while target.goes_on():
        time.sleep(0.1)


if __name__ == "__main__":
    main()
