"""DeepSeek as a test plays it on a real socket, step by step, while a call runs in a thread."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import trustme

from chatproxy.answers.coroutines import run
from chatproxy.answers.session import Phase, Reason, StreamSession
from chatproxy.config import Settings
from chatproxy.errors import Aborted, UpstreamError
from chatproxy.server.resolver import ThreadedResolver
from chatproxy.upstreams.chat_completions import ChatCompletionCall, ChatCompletions

from .pieces import call_for_pieces, whole
from .sessions import new_session
from .waiting import PATIENCE, wait_for

KEY = "sk-0123456789abcdef"
HOST = "deepseek.example"
FAR = f"http://{HOST}"
BODY = b'{"messages": [{"role": "user", "content": "Hello"}], "stream": true}'
#: As it is sent.
SENT = BODY[:-1] + b',"stream_options":{"include_usage":true}}'
EVENT = b'data: {"n": 1}\n\n'
DONE = b"data: [DONE]\n\n"
#: Makes an upstream of a base URL and settings; it is closed after the test.
Connect = Callable[..., ChatCompletions]


def ignore(_piece: bytes) -> bool:
    return True


def new_call(
    upstream: ChatCompletions,
    session: StreamSession | None = None,
    take: Callable[[bytes], bool] = ignore,
    body: bytes = BODY,
) -> ChatCompletionCall:
    """A call that a Stop of the session aborts."""
    return call_for_pieces(upstream, session or new_session(), take, body)


class Peer:
    """One accepted connection, seen from DeepSeek's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def request(self) -> tuple[str, bytes]:
        """The head and the body of the next request."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, f"the peer left amid {head!r}"
            head += byte
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
        body = b""
        while len(body) < int(fields.get("Content-Length", 0)):
            piece = self.socket.recv(1 << 20)
            assert piece, "the peer left amid the body"
            body += piece
        return head.decode(), body

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def begin(self, *fields: str) -> None:
        lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *fields]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self, *fields: str) -> None:
        """A whole answer, after which the connection can be used again."""
        self.request()
        self.begin(*fields)
        self.chunk(EVENT + DONE)
        self.send(b"0\r\n\r\n")

    def sees_the_end(self) -> bool:
        """Whether the other side has closed; waits for it."""
        try:
            while self.socket.recv(65536):
                continue
        except ConnectionError:
            return True
        except ssl.SSLError:  # closed without TLS's goodbye
            return True
        return True


class DeepSeek:
    """A listening socket whose connections the test itself serves."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, listener: socket.socket | None = None
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._tls = tls
        self._listener = self._stack.enter_context(
            listener or socket.create_server(("127.0.0.1", 0))
        )
        self._listener.settimeout(PATIENCE)
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = "{}://{}:{}".format("https" if tls else "http", *self.address)

    def upstream(self, path: str = "", **settings: Any) -> ChatCompletions:
        """What asks it; it is closed when this is."""
        settings = {"api_key": KEY, "base_url": self.url + path, **settings}
        upstream = ChatCompletions(Settings(**settings), ThreadedResolver())
        self._stack.callback(upstream.close)
        return upstream

    def asked(self) -> tuple[Calling, Peer]:
        """A call that has sent its request, and this end of it."""
        return asked(self.upstream(), self)

    def accept(self) -> Peer:
        return Peer(self.secured(self.accept_plain()) if self._tls else self.accept_plain())

    def accept_plain(self) -> socket.socket:
        sock = self._stack.enter_context(self._listener.accept()[0])
        sock.settimeout(PATIENCE)
        return sock

    def secured(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> socket.socket:
        context = tls or self._tls
        assert context is not None
        return self._stack.enter_context(context.wrap_socket(sock, server_side=True))

    def is_left_alone(self) -> bool:
        """Whether no connection waits to be accepted."""
        self._listener.setblocking(False)
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return True
        finally:
            self._listener.settimeout(PATIENCE)
        return False

    def __enter__(self) -> DeepSeek:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Calling:
    """A call that runs in a thread, as a producer's does."""

    def __init__(self, upstream: ChatCompletions, body: bytes = BODY) -> None:
        self.session = new_session()
        self.pieces: queue.Queue[bytes] = queue.Queue()
        take = self.pieces.put
        self.call = new_call(upstream, self.session, lambda piece: take(piece) is None, body)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            run(whole(self.call))
        except Exception as error:
            self.error = error
        finally:
            self.call.close()

    def piece(self) -> bytes:
        return self.pieces.get(timeout=PATIENCE)

    def join(self) -> Exception | None:
        """What the call ended with; None for an answer that was read to its end."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.error

    def failure(self) -> UpstreamError:
        """Why the upstream has failed."""
        error = self.join()
        assert isinstance(error, UpstreamError)
        return error

    def stop(self) -> None:
        """Cancel, and see that the call ends by that."""
        assert self.session.cancel(Reason.USER)
        assert isinstance(self.join(), Aborted)


def asked(upstream: ChatCompletions, deepseek: DeepSeek) -> tuple[Calling, Peer]:
    """A call that has sent its request, and DeepSeek's end of it."""
    calling = Calling(upstream)
    peer = deepseek.accept()
    peer.request()
    return calling, peer


def answered(upstream: ChatCompletions, deepseek: DeepSeek, *fields: str) -> Peer:
    """DeepSeek's end of a connection that is kept after a whole answer."""
    calling = Calling(upstream)
    peer = deepseek.accept()
    peer.answer(*fields)
    assert calling.join() is None
    assert calling.piece() == EVENT + DONE
    return peer


def certificate(ca: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host).configure_cert(context)
    return context


# --- the phases of a call, each with the connection to this very point


def before_the_headers(peer: Peer, calling: Calling) -> None:
    wait_for(lambda: calling.session.phase is Phase.WAITING)


def silent(peer: Peer, calling: Calling) -> None:
    peer.begin()


def mid_stream(peer: Peer, calling: Calling) -> None:
    peer.begin()
    peer.chunk(EVENT)
    assert calling.piece() == EVENT


class Resolver:
    """The look-up of one name takes as long as the test wants; all others are the system's."""

    def __init__(self, found: list[Any] | Exception, name: str = HOST) -> None:
        self._name = name
        self._system = socket.getaddrinfo
        self.asked: queue.Queue[str] = queue.Queue()
        self.go_on = threading.Event()
        self._found = found

    def __call__(self, host: str, *args: Any, **options: Any) -> list[Any]:
        if host != self._name:
            return self._system(host, *args, **options)
        self.asked.put(host)
        self.go_on.wait(PATIENCE * 6)
        if isinstance(self._found, Exception):
            raise self._found
        return self._found
