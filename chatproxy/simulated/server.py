"""The server: a listening socket, and what was accepted on it.

Connections are accepted here rather than by asyncio, because the ledger counts from ``accept()``
on: a peer that never finishes its TLS handshake is a connection too.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import ssl
from collections.abc import Iterable
from decimal import Decimal

from .api import Direct
from .billing import BALANCE, Accounts
from .connection import Connection
from .ledger import Ledger, Line

_BACKLOG = 4096
_BREATH = 0.05


class SimulatedDeepSeek:
    """DeepSeek's API on a real socket, in the running event loop.

    ``port`` 0 is one that the system gives. With ``certfile`` and ``keyfile`` (PEM) it speaks TLS.
    ``direct`` is called with the payload of each question, in the event loop. What it returns is
    answered in its place. ``balance`` is how many dollars each key begins with.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        certfile: str | None = None,
        keyfile: str | None = None,
        direct: Direct = lambda payload: payload,
        balance: Decimal = BALANCE,
    ) -> None:
        self.ledger = Ledger(Accounts(balance))
        self._direct = direct
        self._address = (host, port)
        self._tls = _tls(certfile, keyfile) if certfile else None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._greetings: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()

    @property
    def port(self) -> int:
        """The port listened on. Raises :class:`RuntimeError` before :meth:`start`."""
        return int(self._bound()[1])

    @property
    def url(self) -> str:
        """The base address, without a slash at its end, such as ``http://127.0.0.1:49152``."""
        host, port = self._bound()[:2]
        scheme = "https" if self._tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises :class:`OSError` if the address cannot be had."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._listener = socket.create_server(self._address, family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._listener))

    async def stop(self) -> None:
        """Stop listening and break off every connection; nothing is left behind."""
        ended = [self._accepting] if self._accepting else []
        _cancel(ended)
        # One turn of the loop, so that a greeting that has just been made owns its socket.
        await asyncio.sleep(0)
        ended += self._greetings
        _cancel(ended)
        ended += [task for one in self._connections if (task := one.abort())]
        await asyncio.gather(*ended, return_exceptions=True)
        await asyncio.gather(*(one.gone.wait() for one in self._connections))
        if self._listener:
            self._listener.close()

    def _bound(self) -> tuple[str, int]:
        if self._listener is None:
            raise RuntimeError("the simulated DeepSeek has not been started")
        host, port = self._listener.getsockname()[:2]
        return host, port

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
                # asyncio does this only for sockets that name their protocol; here it is 0.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                # The peer was faster, or no file descriptor is left for now.
                await asyncio.sleep(_BREATH)
                continue
            greeting = loop.create_task(self._greet(sock, self.ledger.connection()))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, sock: socket.socket, line: Line) -> None:
        """Make an accepted socket a connection, which takes a handshake if there is TLS."""
        connection = Connection(self.ledger, line, self._connections, self._direct)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, sock, ssl=self._tls
            )
        except OSError:
            line.closed()
        except asyncio.CancelledError:
            line.closed()
            raise


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def serve(
    host: str,
    port: int,
    *,
    certfile: str | None = None,
    keyfile: str | None = None,
    balance: Decimal = BALANCE,
) -> None:
    """Run a simulated DeepSeek until SIGINT or SIGTERM; for the main thread of a process.

    Prints one line when it can be connected to, ``simulated DeepSeek on http://127.0.0.1:PORT``.
    Raises :class:`OSError` if the address cannot be had or the certificate cannot be read.
    """
    _allow_many_files()
    asyncio.run(
        _serve(SimulatedDeepSeek(host, port, certfile=certfile, keyfile=keyfile, balance=balance))
    )


async def _serve(server: SimulatedDeepSeek) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await server.start()
    print(f"simulated DeepSeek on {server.url}", flush=True)
    await stopping.wait()
    await server.stop()


def _allow_many_files() -> None:
    """Raise the soft limit of open files, which is often too low for a thousand streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tls(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile, keyfile)
    return context
