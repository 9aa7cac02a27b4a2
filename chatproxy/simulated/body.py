"""The body of a streamed answer: how events become the bytes of chunks.

Line endings, then gzip, then the trickle, each only if the scenario asks for it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

from .exchange import Exchange
from .scenario import Scenario

_LINE_ENDINGS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Body:
    """A body under way. Every method waits until the peer has taken what was written."""

    def __init__(self, exchange: Exchange, scenario: Scenario) -> None:
        self._exchange = exchange
        self._line_ending = _LINE_ENDINGS[scenario.line_ending]
        self._gzip = zlib.compressobj(wbits=_GZIP_WINDOW) if scenario.gzip else None
        self._trickle = scenario.trickle

    async def events(self, *events: bytes) -> None:
        """Send events and comments, written with LF, with the line ending that was asked for."""
        if self._line_ending == b"\n":
            await self.octets(*events)
        else:
            await self.octets(*(one.replace(b"\n", self._line_ending) for one in events))

    async def octets(self, *parts: bytes) -> None:
        """Send bytes that are not events, each part in a chunk of its own."""
        await self._chunks([self._encoded(part) for part in parts])

    async def half(self, event: bytes) -> None:
        """Announce a chunk for ``event`` and send half of it."""
        data = self._encoded(event)
        begun = data[: len(data) // 2]
        chunked = not self._exchange.request.http_1_0
        self._exchange.raw(b"%x\r\n%b" % (len(data), begun) if chunked else begun)
        await self._exchange.drained()

    async def nonsense(self) -> None:
        """Send what cannot be the start of a chunk."""
        self._exchange.raw(b"this is not the length of a chunk\r\n")
        await self._exchange.drained()

    async def close_encoding(self) -> None:
        """Send what the encoding has to say at the end of a body."""
        if self._gzip is not None:
            await self._chunks([self._gzip.flush()])

    def _encoded(self, data: bytes) -> bytes:
        if self._gzip is None:
            return data
        return self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)

    async def _chunks(self, parts: Sequence[bytes]) -> None:
        if self._trickle:
            await self._drop_by_drop(b"".join(parts))
        else:
            self._exchange.chunks(parts)
            await self._exchange.drained()

    async def _drop_by_drop(self, data: bytes) -> None:
        for n in range(len(data)):
            self._exchange.chunks([data[n : n + 1]])
            await self._exchange.drained()
            await asyncio.sleep(self._trickle)
