"""One connection: h11 reads its requests, and it watches for its peer to go away.

Reading never pauses, for that is how a departure is noticed at once, whether an answer is being
sent, is silent, has not begun, or waits for the peer to read:

- FIN arrives as :meth:`Connection.eof_received`: the peer ``closed``;
- RST arrives as :meth:`Connection.connection_lost` with an error: the peer ``reset``.

A peer that closes only its sending side counts as gone; no client of DeepSeek does that.
"""

from __future__ import annotations

import asyncio

import h11

from . import wire
from .api import LEDGER_PATH, Direct, respond
from .exchange import Exchange, Request
from .ledger import Entry, Ledger, Line

MAX_BODY = 64 * 1024 * 1024
_MAX_AHEAD = 1024 * 1024


class Connection(asyncio.Protocol):
    """An accepted connection, one of ``others`` from its first byte until it is ``gone``."""

    def __init__(self, ledger: Ledger, line: Line, others: set[Connection], direct: Direct) -> None:
        self.gone = asyncio.Event()
        self._ledger = ledger
        self._line = line
        self._others = others
        self._direct = direct
        self._http = h11.Connection(h11.SERVER)
        self._writable = asyncio.Event()
        self._writable.set()
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._entry: Entry | None = None
        self._task: asyncio.Task[None] | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer is there, with TLS after the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # As good as unbuffered, so that "written" means that the kernel has it. Not 0, with
        # which asyncio's TLS transport pauses before there is anything to write.
        transport.set_write_buffer_limits(high=1)
        self._others.add(self)

    def data_received(self, data: bytes) -> None:
        """Something of a request came."""
        self._http.receive_data(data)
        self._advance()
        if self._task and len(self._http.trailing_data[0]) > _MAX_AHEAD:
            self._transport.abort()

    def eof_received(self) -> None:
        """The peer closed."""
        self._peer_went("closed")
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is no more; with ``error`` the peer reset it."""
        self._peer_went("reset" if error else "closed")
        self._writable.set()
        self._line.closed()
        self._others.discard(self)
        self.gone.set()

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer has read what there was."""
        self._writable.set()

    # What the server calls

    def abort(self) -> asyncio.Task[None] | None:
        """Break off, as the server stops; the task that is ending, if one is."""
        if self._entry:
            self._entry.end()
        if self._task:
            self._task.cancel()
        self._transport.abort()
        return self._task

    # A request, from its headers to its answer

    def _advance(self) -> None:
        try:
            while self._step(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def _step(self, event: object) -> bool:
        """Take one event from h11; whether there can be another."""
        if isinstance(event, h11.Request):
            self._begin(event)
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > MAX_BODY:
                self._refuse(413, f"The body has more than {MAX_BODY} bytes")
        elif isinstance(event, h11.EndOfMessage):
            self._answer()
        else:
            return False
        return not self._transport.is_closing()

    def _begin(self, head: h11.Request) -> None:
        self._head = head
        self._body = bytearray()
        headers = dict(head.headers)
        path, _ = _split(head.target)
        if path == LEDGER_PATH and self._entry is None:
            self._line.take_back()
        encoding = headers.get(b"accept-encoding")
        # Whoever asks for the ledger must not find himself in it.
        note = self._ledger.request if path != LEDGER_PATH else _unlisted
        self._entry = note(
            head.method.decode("ascii"),
            path[:200],
            authorization=b"authorization" in headers,
            accept_encoding=None if encoding is None else encoding.decode("latin-1")[:200],
        )
        if self._http.they_are_waiting_for_100_continue:
            go_on = self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._transport.write(go_on or b"")

    def _answer(self) -> None:
        assert self._head
        assert self._entry
        path, query = _split(self._head.target)
        request = Request(
            method=self._head.method.decode("ascii"),
            path=path,
            query=query,
            headers={n.decode("ascii"): v.decode("latin-1") for n, v in self._head.headers},
            body=bytes(self._body),
            http_1_0=self._head.http_version == b"1.0",
        )
        self._body.clear()
        exchange = Exchange(request, self._entry, self._transport, self._http, self._writable)
        answer = respond(exchange, self._ledger, self._direct)
        self._task = asyncio.get_running_loop().create_task(answer)
        self._task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error:
            context = {"message": "an answer failed", "exception": error, "protocol": self}
            asyncio.get_running_loop().call_exception_handler(context)
            self.abort()
        if self._transport.is_closing():
            return
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._advance()
        else:
            self._transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be taken for a request, and hang up."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = wire.error_body(status, message)
            kind = [("Content-Type", "application/json"), ("Connection", "close")]
            headers = [*kind, ("Content-Length", str(len(body)))]
            head = h11.Response(status_code=status, headers=headers)
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self._transport.write(self._http.send(event) or b"")
            if self._entry and self._entry.open:
                self._entry.status = status
                self._entry.finish()
        self._transport.close()

    def _peer_went(self, how: str) -> None:
        if self._entry:
            self._entry.peer_went(how)
        if self._task:
            self._task.cancel()


def _split(target: bytes) -> tuple[str, str]:
    path, _, query = target.decode("latin-1").partition("?")
    return path, query


def _unlisted(method: str, path: str, *, authorization: bool, accept_encoding: str | None) -> Entry:
    return Entry(0, method, path, authorization, accept_encoding)
