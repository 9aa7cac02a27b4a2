"""The clients: streams on raw sockets that count events in bytes, so that they cost little.

What counts as an event is a line that begins with ``data: ``; ``[DONE]`` is one too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

#: Who the clients are, if the server knows owners; others pass it over.
TOKEN = "bench-0123456789abcdef"
_EVENT = b"\ndata: "
_AT_ONCE = 50
_SECONDS_TO_BEGIN = 30.0
_SECONDS_TO_ANSWER = 20.0

_T = TypeVar("_T")

_prefix = f"bench_{secrets.token_hex(8)}"
_numbers = itertools.count(1)


class LoadError(Exception):
    """What was to be measured did not happen; the message says what did."""


def new_id() -> str:
    """A session id that was not used before, on any run."""
    return f"{_prefix}_{next(_numbers)}"


class Stream(asyncio.Protocol):
    """One client that posts for a stream and counts what comes."""

    def __init__(self, simulate: dict[str, Any]) -> None:
        self.id = new_id()
        self.events = 0
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.refusal = b""
        self._simulate = {**simulate, "tag": self.id}
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(post("/api/chat/stream", self.id, _chat(self._simulate)))

    def data_received(self, data: bytes) -> None:
        if not self.begun.is_set():
            self.begun.set()
            if not data.startswith(b"HTTP/1.1 200"):
                self.refusal = data
        # Each is shorter than what is looked for: only one that was cut in two is found in both.
        self.events += data.count(_EVENT) + (self._tail + data[:6]).count(_EVENT)
        self._tail = (self._tail + data)[-6:] if len(data) < 6 else data[-6:]

    def connection_lost(self, error: Exception | None) -> None:
        self.begun.set()
        self.ended.set()

    def close(self) -> None:
        """Leave."""
        self._transport.abort()

    def check(self) -> None:
        """Raise :class:`LoadError` if the stream was refused or is over."""
        if self.refusal:
            raise LoadError(f"a stream was refused: {self.refusal[:500]!r}")
        if self.ended.is_set():
            raise LoadError(f"a stream ended after {self.events} events")


async def start(port: int, simulate: dict[str, Any]) -> Stream:
    """Begin one stream."""
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: Stream(simulate), "127.0.0.1", port)
    return stream


class Crowd:
    """Many live streams of the same kind.

    :param simulate: what the upstream is to do for each.
    """

    def __init__(self, port: int, number: int, simulate: dict[str, Any]) -> None:
        self._port = port
        self._number = number
        self._simulate = simulate
        self._streams: list[Stream] = []

    async def __aenter__(self) -> Crowd:
        try:
            for begin in range(0, self._number, _AT_ONCE):
                some = min(_AT_ONCE, self._number - begin)
                tasks = [start(self._port, self._simulate) for _ in range(some)]
                self._streams += await asyncio.gather(*tasks)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.close()
        await asyncio.gather(*(stream.ended.wait() for stream in self._streams))

    async def flow(self) -> None:
        """Wait until each has received something."""
        begun = asyncio.gather(*(stream.begun.wait() for stream in self._streams))
        await _within(_SECONDS_TO_BEGIN, begun, "the first event of every stream")
        self.check()

    def check(self) -> None:
        """Raise :class:`LoadError` if one of them was refused or is over."""
        for stream in self._streams:
            stream.check()


async def answers(port: int, number: int, concurrency: int, tokens: int) -> None:
    """Have so many short answers from their start to their ``[DONE]``, ``concurrency`` at a time.

    :raises LoadError: where one was not whole.
    """
    left = iter(range(number))

    async def one_after_the_other() -> None:
        for _ in left:
            await _answer(port, tokens)

    await asyncio.gather(*(one_after_the_other() for _ in range(concurrency)))


async def _answer(port: int, tokens: int) -> None:
    stream = await start(port, {"rate": 0, "tokens": tokens})
    try:
        await _within(_SECONDS_TO_ANSWER, stream.ended.wait(), "the end of a short answer")
    finally:
        stream.close()
    # Besides the tokens: a chunk with the role, one with the usage, and [DONE].
    if stream.refusal or stream.events != tokens + 3:
        raise LoadError(f"an answer had {stream.events} events: {stream.refusal[:500]!r}")


@dataclass(frozen=True)
class Stop:
    """One press of Stop.

    ``sent`` is when its bytes were handed to the kernel, in seconds of the monotonic clock.
    """

    id: str
    sent: float
    receipt: dict[str, Any]


async def stop(port: int, session_id: str) -> Stop:
    """Press Stop, on a connection of its own, and read the receipt.

    :raises LoadError: where there is none, or it does not confirm the close.
    """
    request = post(f"/api/chat/cancel/{session_id}", session_id, b"")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sent = time.monotonic()
        sock.sendall(request)
        status, body = await _reply(sock)
    receipt = json.loads(body)
    if status != 200 or not receipt["upstreamClosed"]:
        raise LoadError(f"a Stop was answered with {status} {receipt}")
    return Stop(session_id, sent, receipt)


async def fetch(port: int, path: str, method: str = "GET") -> Any:
    """The JSON at a path."""
    return json.loads(await fetch_text(port, path, method))


async def fetch_text(port: int, path: str, method: str = "GET") -> str:
    """What is at a path."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        return (await _reply(sock))[1].decode()


async def _reply(sock: socket.socket) -> tuple[int, bytes]:
    sock.setblocking(False)
    loop, reply = asyncio.get_running_loop(), b""

    async def receive() -> bytes:
        return await _within(_SECONDS_TO_ANSWER, loop.sock_recv(sock, 65536), "a reply")

    while piece := await receive():
        reply += piece
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def _within(seconds: float, awaitable: Awaitable[_T], what: str) -> _T:
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except asyncio.TimeoutError:
        raise LoadError(f"{what} did not come within {seconds:.0f} s") from None


def _chat(simulate: dict[str, Any]) -> bytes:
    messages = [{"role": "user", "content": "Hello"}]
    chat = {"model": "deepseek-flash", "messages": messages, "simulate": simulate}
    return json.dumps(chat).encode()


def post(path: str, session_id: str, body: bytes) -> bytes:
    """A whole request, after whose answer the connection ends."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"X-Session-Id: {session_id}\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
