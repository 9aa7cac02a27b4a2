"""One request and the way its answer goes out: framing, back-pressure and the three endings.

h11 writes heads and keeps the state of the connection; the chunks of a body are framed here and
written straight to the transport, since a chunk is two lines and there are very many of them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import h11

from .ledger import Entry

Headers = list[tuple[str, str]]

_LINGER_NOT = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """A request that has come in full; ``headers`` by lower-case name."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    http_1_0: bool = False


class Exchange:
    """A request, its ledger entry, and the means to answer it.

    The one who answers awaits :meth:`drained` after writing. The connection clears ``writable``
    while the peer reads too slowly, and cancels the one who answers when the peer has gone.
    """

    def __init__(
        self,
        request: Request,
        entry: Entry,
        transport: asyncio.Transport,
        http: h11.Connection,
        writable: asyncio.Event,
    ) -> None:
        self.request = request
        self.entry = entry
        self._transport = transport
        self._http = http
        self._writable = writable

    def head(self, status: int, headers: Headers) -> None:
        """Send the status and the headers; a body without a Content-Length will be chunked."""
        self.entry.status = status
        self._send(h11.Response(status_code=status, headers=headers, reason=_reason(status)))

    def chunks(self, parts: Iterable[bytes]) -> None:
        """Write each part, none of them empty, as a chunk of its own, all at once."""
        if self.request.http_1_0:
            self.raw(b"".join(parts))
        else:
            self.raw(b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in parts]))

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until what was written has left for the peer."""
        if not self._writable.is_set():
            await self._writable.wait()

    async def finish(self) -> None:
        """End the body properly, and the answer with it: it is whole."""
        await self._end_body()
        self.entry.finish()

    async def finish_early(self) -> None:
        """End the body properly, though the answer is not whole."""
        await self._end_body()
        self.entry.end()

    async def reply(
        self,
        status: int,
        body: bytes,
        headers: Headers | None = None,
        content_type: str = "application/json",
    ) -> None:
        """Answer with a body, JSON if nothing else is said, in full."""
        length = ("Content-Length", str(len(body)))
        self.head(status, [("Content-Type", content_type), length, *(headers or [])])
        if self.request.method != "HEAD":
            self._send(h11.Data(data=body))
        await self.finish()

    def hang_up(self) -> None:
        """Close the connection (FIN), wherever the answer is."""
        self.entry.end()
        self._transport.close()

    def reset(self) -> None:
        """Break the connection off (RST), wherever the answer is."""
        self.entry.end()
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()

    async def _end_body(self) -> None:
        self._send(h11.EndOfMessage())
        await self.drained()

    def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data:
            self._transport.write(data)


def _reason(status: int) -> bytes:
    return _REASONS.get(status, b"Simulated")


_REASONS = {
    200: b"OK",
    307: b"Temporary Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Payload Too Large",
    422: b"Unprocessable Entity",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
