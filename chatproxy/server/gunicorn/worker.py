"""The worker: gunicorn's gevent worker with our connections, limits and rotation.

What gunicorn's worker does: it accepts up to ``worker_connections`` connections, with a greenlet
for each. The greenlet parses a head, calls the application, writes the answer, and parses the next
head, until the client or the worker closes. The main greenlet notifies the master once a second.

What ``Worker`` changes:

* A connection's socket is a ``connections.Client``: it yields while there is data, and what it
  waits for is bounded in time and number.
* The application is not called before the body has come, unless that is too large; a client that
  waits to be asked for it (``100 Continue``) is asked.
* The rest of a body that the application left unread is read if it is small. Otherwise the
  connection is closed so that the client still gets the answer.
* A worker that has served ``max_requests`` is replaced before it ends (``rotation``).
* A worker alone accepts a few connections in a turn of the loop, not a hundred.
* gunicorn's settings are looked up once, not some fifty times for a request.

All this rests on few of gunicorn's internals. ``fits`` tries them when a worker begins; if they are
not as expected, gunicorn's own worker serves, and the log says so.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from functools import partial
from typing import Any

import gevent
import gevent.socket
from gevent.server import StreamServer
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import default_environ
from gunicorn.workers.ggevent import GeventWorker

from ... import scopes
from .body import RequestBody
from .connections import Client, Connection, Guard, wrap
from .rotation import Rotation

#: A request with which to try gunicorn. One header only: there may be a limit on their number.
_REQUEST = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"

#: Connections that are accepted in one turn of the event loop.
_ACCEPTED_IN_A_TURN = 4


def adopt(worker: Any, timeout: float, most_body: int, rotation: Rotation) -> bool:
    """Make a gevent worker of gunicorn's, which is about to serve, one of ours.

    The class is changed on the object because ``-k gevent`` on the command line goes before the
    ``worker_class`` of a configuration.

    :param timeout: seconds in which the head of a request must come, and then its body.
    :param most_body: bytes of a body that are awaited before the application is called.
    :returns: False if it is of another class, or gunicorn's internals are not as expected.
    """
    if type(worker) is not GeventWorker or not fits(worker.cfg):
        return False
    worker.__class__ = Worker
    worker.begin(timeout, most_body, rotation)
    return True


class _Settings:
    """gunicorn's settings as they are when a worker begins, each looked up once by its name."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._config, name)
        setattr(self, name, value)  # from now on it is found without this
        return value


class Acceptor(StreamServer):
    """Accepts connections for a worker, which does the TLS handshake itself."""

    def __init__(
        self,
        worker: Worker,
        listener: Any,
        *,
        spawn: Any,
        environ: dict[str, Any],
        ssl_context: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(listener, handle=worker.admit, spawn=spawn)
        self._given = listener, ssl_context
        # With several workers one, as gunicorn does: the others accept too.
        self.max_accept = 1 if environ["wsgi.multiprocess"] else _ACCEPTED_IN_A_TURN

    def do_read(self) -> tuple[Client, Any] | None:
        """Accept a connection, as gevent does."""
        listener = self.socket
        try:
            descriptor, address = listener._accept()
        except BlockingIOError:
            return None
        return Client(listener.family, listener.type, listener.proto, fileno=descriptor), address

    def do_handle(self, accepted: Client, address: Any) -> None:
        """Have a connection served. gevent's way to do so keeps two calls more on its stack."""
        try:
            self._spawn(self._handle, *self._given, accepted, address)
        except BaseException:
            accepted.close()
            raise


class Worker(GeventWorker):
    """gunicorn's gevent worker with a ``Guard`` over its connections."""

    cfg: Any
    guard: Guard
    rotation: Rotation
    max_requests: int

    def begin(self, timeout: float, most_body: int, rotation: Rotation) -> None:
        """Set up what gunicorn's worker lacks."""
        self.cfg = _Settings(self.cfg)
        # To note where a greenlet was begun takes longer than to make it; it is for debugging.
        gevent.config.track_greenlet_tree = False
        most = max(1, self.worker_connections // 3)
        self.guard = Guard(timeout, self.cfg.keepalive, most, most_body)
        self.rotation = rotation
        # gunicorn itself would accept nothing more once it has served so many.
        self._rotate_after = self._rotate_at = self.max_requests
        self.max_requests = sys.maxsize

    @property
    def server_class(self) -> Any:
        """What gunicorn calls for each of its listeners."""
        return partial(Acceptor, self)

    def run(self) -> None:
        """Serve until told to stop, as gunicorn does."""
        gevent.spawn(self._sweep)
        self.rotation.note_ready()
        super().run()

    def timeout_ctx(self) -> Any:
        """No timer of gunicorn's for a head: ``arrivals`` has one, which fires also amid data."""
        return contextlib.nullcontext()

    def admit(self, listener: Any, context: Any, accepted: Any, address: Any) -> None:
        """Serve a connection that was just accepted, and close it."""
        connection = Connection(self.guard, accepted.fileno())
        try:
            client = wrap(accepted, context, connection)
        except OSError as error:
            self.log.debug("The TLS handshake failed: %s", error)
        else:
            self.handle(listener, client, address)
        finally:
            connection.close()
            accepted.close()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Serve a request; read the rest of its body, or have its connection closed."""
        connection: Connection = sock.connection
        body = connection.begin_request(req)
        try:
            if body is not None and connection.is_read_ahead(req, body):
                _ask_for_body(req, sock)
                if not connection.read_ahead(req, body):
                    raise StopIteration
            kept = self._answer(listener_name, req, sock, addr, body)
        finally:
            if body is not None:
                body.drop()
                body.on_end = None  # it refers to the request, and the request to the body
        connection.end_request()
        return kept

    def _answer(
        self, listener_name: Any, req: Any, sock: Any, addr: Any, body: RequestBody | None
    ) -> Any:
        try:
            kept = super().handle_request(listener_name, req, sock, addr)
            if body is not None and not body.ended and not sock.connection.drain(body):
                raise StopIteration
        except BaseException:
            if body is not None and not body.ended and sock.fileno() >= 0:
                sock.connection.linger()
            raise
        return kept

    def handle_http2(self, listener: Any, client: Any, *args: Any, **kwargs: Any) -> None:
        """Serve an HTTP/2 connection, without the bounds on how requests arrive."""
        client.connection.close()  # it carries several requests, and may wait for long
        super().handle_http2(listener, client, *args, **kwargs)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse what is no request, so that the client can still read why."""
        super().handle_error(req, client, addr, exc)
        if client.fileno() >= 0:
            client.connection.linger()

    def _sweep(self) -> None:
        """End late requests, and see whether it is time to be replaced; again and again."""
        replacing = None
        while True:
            gevent.sleep(self.guard.period)
            self.guard.arrivals.sweep()
            if self.nr >= self._rotate_at and self._stays() and not replacing:
                replacing = gevent.spawn(self._be_replaced)

    def _be_replaced(self) -> None:
        self.log.info("Worker %s has served %d requests; it is being replaced.", self.pid, self.nr)
        while self._stays() and not self.rotation.replace(self.ppid, self._may_wait):
            gevent.sleep(0.5)
        self._rotate_at = self.nr + self._rotate_after

    def _may_wait(self) -> bool:
        gevent.sleep(0.05)
        return self._stays()

    def _stays(self) -> bool:
        """Whether this worker was not told to stop; after that it goes on for a while."""
        states = [app.extensions["chatproxy"] for app in scopes.applications()]
        return bool(self.alive) and not any(state.registry.drain.leaving for state in states)


def _ask_for_body(request: Any, client: Any) -> None:
    """Ask for a body if its client waits for that (RFC 9110, 10.1.1), instead of gunicorn."""
    asks = [each for each in request.headers if each[0] == "EXPECT"]
    if not asks:
        return
    if request.version >= (1, 1):
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    # Newer versions of gunicorn look for this, older ones for the header.
    request._expected_100_continue = False
    request.headers = [each for each in request.headers if each not in asks]


def fits(config: Any) -> bool:
    """Whether gunicorn reads requests as ``Connection`` expects; tried on a socket pair."""
    peer, accepted = gevent.socket.socketpair()
    with peer, Client(accepted.family, accepted.type, fileno=accepted.detach()) as client:
        guard = Guard(timeout=1, keepalive=1, most=1, most_body=2)
        client.connection = Connection(guard, client.fileno())
        peer.sendall(_REQUEST)
        try:
            return _is_read_as_expected(client, config)
        except Exception:
            return False


def _is_read_as_expected(client: Any, config: Any) -> bool:
    request = next(RequestParser(config, client, ("127.0.0.1", 0)))
    body = client.connection.begin_request(request)
    closes = request.should_close()
    parameters = list(inspect.signature(GeventWorker.handle_request).parameters)
    return (
        request.body is default_environ(request, client, config)["wsgi.input"]
        and request.body.read() == b"ab"
        and body.ended
        and (closes, request.should_close()) == (True, False)
        and parameters == ["self", "listener_name", "req", "sock", "addr"]
        and GeventWorker.server_class is None
    )
