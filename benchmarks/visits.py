"""The clients of the storm: each lives one session as its fate says, and notes what it saw."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.servers import chat

from .fates import STOPPED, Fate

#: Ten times what an answer may take by any timeout of the server, on a machine with other work.
_SECONDS_TO_ANSWER = 30.0
_SECONDS_TO_END = 300.0
_MOST_PRESSES = 12
#: Seconds before Stop is pressed again; each time a little more.
_BEFORE_ANOTHER = 0.25
_SIP, _BETWEEN_SIPS = 8192, 0.1
_NARROW = 8192  # the receive buffer of a slow client


class Wire:
    """One connection of a client.

    ``lost`` is set once the worker at its other end was killed.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, port: int) -> None:
        self.port = port
        self.lost = False

    async def connect(self, sock: socket.socket, port: int, limit: int) -> None:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=limit)


class Wires:
    """All connections that clients have now."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: dict[int, Wire] = {}

    @contextmanager
    def hold(self) -> Iterator[list[Wire]]:
        """A list for the connections that are to be closed at the end."""
        mine: list[Wire] = []
        try:
            yield mine
        finally:
            for wire in mine:
                self._open.pop(wire.port, None)
                wire.writer.transport.abort()

    async def connect(self, mine: list[Wire], narrow: bool = False) -> Wire:
        """A new connection, which whichever worker accepts."""
        sock = socket.socket()
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        # The port is known before a worker can have the connection, and be killed with it.
        sock.bind(("127.0.0.1", 0))
        wire = Wire(sock.getsockname()[1])
        self._open[wire.port] = wire
        try:
            await wire.connect(sock, self._port, _NARROW if narrow else 65536)
        except BaseException:
            del self._open[wire.port]
            sock.close()
            raise
        mine.append(wire)
        return wire

    def lose(self, ports: set[int]) -> int:
        """Note that the worker at the other end of these was killed; how many they are."""
        lost = [wire for port, wire in self._open.items() if port in ports]
        for wire in lost:
            wire.lost = True
        return len(lost)


@dataclass
class Press:
    """One press of Stop; ``status`` is 0 where the connection broke.

    ``settled`` is when the upstream had surely read all that was sent to it before the answer.
    """

    wire: Wire
    sent: float
    answered: float = 0.0
    settled: float = 0.0
    status: int = 0
    answer: dict[str, Any] = field(default_factory=dict)


class Visit:
    """One session, as its client lives it.

    :param on_press: what to do after each press of Stop, at once.
    """

    def __init__(self, fate: Fate, wires: Wires, on_press: Any) -> None:
        self.fate = fate
        self.presses: list[Press] = []
        #: When the start was sent, and when the first of its answer came.
        self.began = self.answered = 0.0
        self.stream: Wire | None = None
        self.received = b""
        #: Whether the client left, or gave the answer up.
        self.left = False
        self._wires = wires
        self._on_press = on_press
        self._hurries = asyncio.Event()
        if not fate.slow:
            self._hurries.set()

    @property
    def lost(self) -> bool:
        """Whether the worker that had its stream was killed."""
        return self.stream is not None and self.stream.lost

    async def live(self) -> None:
        """All of it."""
        with self._wires.hold() as mine:
            if self.fate.name == "stop_early":
                await self._press(mine)
                await asyncio.sleep(self.fate.pause)
            await self._visit(mine)

    async def _visit(self, mine: list[Wire]) -> None:
        self.stream = await self._wires.connect(mine, narrow=self.fate.slow)
        body = json.dumps(chat(simulate=self.fate.simulate)).encode()
        self.began = time.monotonic()
        self.stream.writer.write(_head("stream", self.fate.id, len(body), "close") + body)
        if self.fate.name == "drop":
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._read(), self.fate.pause)
            self.left = True
            return
        reading = asyncio.create_task(self._read())
        try:
            if self.fate.name in STOPPED and self.fate.name != "stop_early":
                await asyncio.sleep(self.fate.pause)
                await asyncio.gather(*(self._press(mine) for _ in range(self.fate.presses)))
                self._hurries.set()
                await asyncio.wait_for(reading, _SECONDS_TO_ANSWER)
            else:
                await asyncio.wait_for(reading, _SECONDS_TO_END)
        except asyncio.TimeoutError:
            self.left = True
        finally:
            reading.cancel()

    async def _read(self) -> None:
        assert self.stream is not None
        slow = not self._hurries.is_set()
        with suppress(ConnectionError):
            while piece := await self.stream.reader.read(_SIP if slow else 65536):
                self.answered = self.answered or time.monotonic()
                self.received += piece
                if slow:
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._hurries.wait(), _BETWEEN_SIPS)
                    slow = not self._hurries.is_set()

    async def _press(self, mine: list[Wire]) -> None:
        """Press Stop, and again as a user would, until it is answered by a yes or a no."""
        for number in range(1, _MOST_PRESSES + 1):
            press = Press(await self._wires.connect(mine), time.monotonic())
            self.presses.append(press)
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                await asyncio.wait_for(self._ask(press), _SECONDS_TO_ANSWER)
            press.answered = time.monotonic()
            await self._on_press(self, press)
            if press.status in (200, 404):
                return
            await asyncio.sleep(number * _BEFORE_ANOTHER)

    async def _ask(self, press: Press) -> None:
        reader, writer = press.wire.reader, press.wire.writer
        press.sent = time.monotonic()
        writer.write(_head(f"cancel/{self.fate.id}", self.fate.id, 0, "keep-alive"))
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(_header(head, b"content-length")))
        press.answer, press.status = json.loads(body), int(head.split()[1])


@dataclass(frozen=True)
class Reply:
    """What a stream's request was answered with; ``whole`` is False where it broke off.

    :param events: the fields of each event, in order.
    """

    status: int
    whole: bool
    body: bytes
    events: list[dict[str, str]]

    @classmethod
    def of(cls, received: bytes) -> Reply:
        head, _, rest = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            return cls(0, False, received, [])
        status = int(head.split()[1])
        if b"chunked" not in head.lower():
            return cls(status, len(rest) == int(_header(head, b"content-length")), rest, [])
        body = b"".join(_chunks(rest))
        return cls(status, rest.endswith(b"\r\n0\r\n\r\n"), body, list(_events(body)))

    @property
    def data(self) -> list[dict[str, str]]:
        """The upstream's events."""
        return [each for each in self.events if "event" not in each and each["data"] != "[DONE]"]

    @property
    def stopped(self) -> dict[str, Any] | None:
        """What its event ``stopped`` says."""
        found = [each for each in self.events if each.get("event") == "stopped"]
        return json.loads(found[0]["data"]) if found else None

    @property
    def done(self) -> bool:
        return bool(self.events) and self.events[-1]["data"] == "[DONE]"


def _chunks(rest: bytes) -> Iterator[bytes]:
    begin = 0
    while (end := rest.find(b"\r\n", begin)) > 0:
        size = int(rest[begin:end], 16)
        yield rest[end + 2 : end + 2 + size]
        begin = end + 2 + size + 2


def _events(body: bytes) -> Iterator[dict[str, str]]:
    for block in body.decode(errors="replace").split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.split("\n"))
        if "data" in fields:
            yield fields


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    raise ConnectionError(f"no {name!r} in {head!r}")


def _head(path: str, session_id: str, length: int, connection: str) -> bytes:
    return (
        f"POST /api/chat/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n"
        f"X-Session-Id: {session_id}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()
