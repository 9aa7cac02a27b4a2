"""Which way is taken to DeepSeek, and through a SOCKS proxy: whole answers, and a Stop anywhere."""

from __future__ import annotations

import contextlib
import logging
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import trustme

from chatproxy.answers.session import Phase
from chatproxy.errors import ConfigError

from .support.played import (
    DONE,
    EVENT,
    FAR,
    Calling,
    Connect,
    DeepSeek,
    Peer,
    Resolver,
    answered,
    before_the_headers,
    certificate,
    mid_stream,
)

pytestmark = pytest.mark.usefixtures("_plain_environment")

USER, PASSWORD = "somebody", "s3cr3t-of-the-proxy"
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
Environment = pytest.MonkeyPatch


@pytest.fixture
def deepseek(played: DeepSeek) -> DeepSeek:
    return played


class SocksPeer(Peer):
    """A connection to the SOCKS proxy, which the test plays (RFC 1928, RFC 1929)."""

    def take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            piece = self.socket.recv(count - len(taken))
            assert piece, f"the peer left after {taken!r}"
            taken += piece
        return taken

    def methods(self) -> bytes:
        version, count = self.take(2)
        assert version == 5
        return self.take(count)

    def credentials(self) -> tuple[bytes, bytes]:
        self.send(b"\x05\x02")
        assert self.take(1) == b"\x01"
        return self.take(self.take(1)[0]), self.take(self.take(1)[0])

    def asked(self) -> tuple[str, int]:
        """What it is asked for by somebody who needs no password."""
        self.methods()
        self.send(b"\x05\x00")
        return self.target()

    def target(self) -> tuple[str, int]:
        assert self.take(3) == b"\x05\x01\x00"
        (kind,) = self.take(1)
        if kind == 3:
            host = self.take(self.take(1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, self.take(size))
        return host, int.from_bytes(self.take(2), "big")


class Socks(DeepSeek):
    """A SOCKS proxy."""

    @property
    def place(self) -> str:
        """Its host and port."""
        return self.url.removeprefix("http://")

    def accept(self) -> SocksPeer:
        return SocksPeer(self.accept_plain())

    def lead(self, target: str) -> tuple[str, int]:
        """Serve one connection, and lead it to this URL's host; return what was asked for."""
        peer = self.accept()
        asked = peer.asked()
        host, port = target.rpartition("/")[2].rsplit(":", 1)
        inner = socket.create_connection((host, int(port)))
        peer.send(GRANTED)
        threading.Thread(target=join, args=(peer.socket, inner), daemon=True).start()
        return asked


def join(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes on between two connections until one of them ends; then close both."""
    with one, other, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if not (piece := key.fileobj.recv(65536)):
                    return
                key.data.sendall(piece)


@pytest.fixture
def socks() -> Iterator[Socks]:
    socks = Socks()
    with socks:
        yield socks


@pytest.fixture
def proxied(socks: Socks, monkeypatch: Environment) -> Socks:
    """The SOCKS proxy, which the environment names for all hosts."""
    monkeypatch.setenv("all_proxy", f"socks5h://{socks.place}")
    return socks


# --- which proxy counts


def test_a_socks_proxy_beside_the_one_that_is_used_does_not_matter(
    connect: Connect, deepseek: DeepSeek, monkeypatch: Environment
) -> None:
    """As the usual settings of Clash are: one port for both kinds."""
    monkeypatch.setenv("http_proxy", deepseek.url)
    monkeypatch.setenv("https_proxy", deepseek.url)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    calling = Calling(connect("https://deepseek.example"))
    head, _ = deepseek.accept().request()
    assert head.startswith("CONNECT deepseek.example:443 ")
    calling.stop()


@pytest.mark.parametrize(
    ("proxy", "excepted"),
    [
        (("all_proxy", "socks5h://127.0.0.1:1"), ("no_proxy", "deepseek.example")),
        (("all_proxy", "socks5h://127.0.0.1:1"), ("no_proxy", ".example")),
        (("all_proxy", "socks5h://127.0.0.1:1"), ("no_proxy", "*")),
        (("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "deepseek.example")),
    ],
)
def test_an_excepted_host_and_a_loopback_one_are_reached_without_the_proxy(
    connect: Connect,
    resolve: Callable[..., Resolver],
    monkeypatch: Environment,
    proxy: tuple[str, str],
    excepted: tuple[str, str],
) -> None:
    monkeypatch.setenv(*proxy)
    with DeepSeek() as deepseek:
        answered(deepseek.upstream(), deepseek)
        monkeypatch.setenv(*excepted)
        resolve(deepseek.address).go_on.set()
        answered(connect(FAR), deepseek)


@pytest.mark.parametrize(
    "proxy",
    [
        "socks://127.0.0.1:1080",
        "ftp://127.0.0.1:21",
        "http://",
        "http://:80",
        "http://h:x",
        "h:99999",
    ],
)
def test_a_proxy_that_cannot_be_used_stops_the_start_without_telling_its_password(
    connect: Connect, monkeypatch: Environment, proxy: str
) -> None:
    scheme, mark, rest = proxy.rpartition("://")
    monkeypatch.setenv("all_proxy", f"{scheme}{mark}{USER}:{PASSWORD}@{rest}")
    with pytest.raises(ConfigError, match="proxy") as caught:
        connect(FAR)
    assert PASSWORD not in str(caught.value)


def test_a_proxy_that_cannot_be_used_does_not_matter_if_it_is_not_used(
    connect: Connect, monkeypatch: Environment
) -> None:
    monkeypatch.setenv("all_proxy", "socks://127.0.0.1:1080")
    monkeypatch.setenv("http_proxy", "127.0.0.1:8080")
    connect(FAR)
    connect("http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "deepseek.example")
    connect("https://deepseek.example")


@pytest.mark.parametrize("password", ["ä", "x" * 256])
def test_what_socks_cannot_carry_stops_the_start(
    connect: Connect, monkeypatch: Environment, password: str
) -> None:
    monkeypatch.setenv("all_proxy", f"socks5://{USER}:{password}@127.0.0.1:1080")
    with pytest.raises(ConfigError, match="short ASCII"):
        connect(FAR)


# --- through a SOCKS proxy


def test_its_connection_is_kept_for_the_next_question(
    connect: Connect, deepseek: DeepSeek, proxied: Socks
) -> None:
    """The proxy is asked for the name, and the answer comes through."""
    upstream = connect(FAR)
    first = Calling(upstream)
    assert proxied.lead(deepseek.url) == ("deepseek.example", 80)
    peer = deepseek.accept()
    peer.answer()
    assert first.join() is None
    assert first.piece() == EVENT + DONE
    second = Calling(upstream)
    peer.answer()
    assert second.join() is None
    assert proxied.is_left_alone()


@pytest.mark.parametrize("addresses", [["192.0.2.9"], ["2001:db8::9", "192.0.2.9"]])
def test_with_socks5_the_name_is_looked_up_here_and_ipv4_is_preferred(
    connect: Connect,
    socks: Socks,
    resolve: Callable[..., Resolver],
    monkeypatch: Environment,
    addresses: list[str],
) -> None:
    resolve(*((each, 80) for each in addresses)).go_on.set()
    monkeypatch.setenv("all_proxy", f"socks5://{socks.place}")
    calling = Calling(connect(FAR))
    peer = socks.accept()
    assert peer.asked() == ("192.0.2.9", 80)
    calling.stop()


def test_socks_4a_works_too(
    connect: Connect, deepseek: DeepSeek, socks: Socks, monkeypatch: Environment
) -> None:
    monkeypatch.setenv("all_proxy", f"socks4a://{USER}@{socks.place}")
    calling = Calling(connect(FAR))
    peer = socks.accept()
    request = b"\x04\x01\x00\x50\x00\x00\x00\x01" + USER.encode() + b"\0deepseek.example\0"
    assert peer.take(len(request)) == request
    peer.send(b"\x00\x5a" + bytes(6))
    peer.answer()
    assert calling.join() is None


def test_the_proxy_is_told_user_and_password_and_no_log_is(
    connect: Connect, socks: Socks, monkeypatch: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    quoted = PASSWORD.replace("-", "%2D")
    monkeypatch.setenv("all_proxy", f"socks5h://{USER}:{quoted}@{socks.place}")
    calling = Calling(connect(FAR, tries=1))
    peer = socks.accept()
    assert peer.methods() == b"\x00\x02"
    assert peer.credentials() == (USER.encode(), PASSWORD.encode())
    peer.send(b"\x01\x01")
    error = calling.failure()
    assert error.reason.startswith(f"proxy {socks.place}: Username and password")
    for secret in (PASSWORD, quoted):
        assert secret not in caplog.text + error.reason + error.message


def test_an_http_proxy_may_repeat_its_login_and_no_log_does(
    connect: Connect, deepseek: DeepSeek, monkeypatch: Environment
) -> None:
    """As it is in the URL, and as ``Proxy-Authorization`` has it; all of it or a part."""
    login = f"{USER}:{PASSWORD.replace('-', '%2D')}"
    monkeypatch.setenv("http_proxy", deepseek.url.replace("://", f"://{login}@"))
    calling = Calling(connect(FAR, tries=1))
    peer = deepseek.accept()
    head, _ = peer.request()
    (basic,) = re.findall("Proxy-Authorization: Basic (.*)\r", head)
    said = f"Who is {basic}, {basic[:12]}..., {USER}:{PASSWORD}, {PASSWORD[6:]}?".encode()
    peer.send(b"HTTP/1.1 407 No\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
    reason = calling.failure().reason
    assert reason.startswith(f"status 407: 'Who is ***, ***..., {USER}:***, ***?'")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\x05\x05\x00\x01", "Connection refused by destination host"),
        (b"\x05\x04\x00\x01", "Host unreachable"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Unexpected SOCKS version number"),
        (b"", "Connection closed unexpectedly"),
    ],
)
def test_what_the_proxy_says_is_told_to_operators_and_tried_again(
    connect: Connect, proxied: Socks, said: bytes, words: str
) -> None:
    """Nothing was sent to DeepSeek."""
    calling = Calling(connect(FAR, tries=2))
    for _ in range(2):
        peer = proxied.accept()
        peer.asked()
        peer.send(said)
        peer.socket.close()
    error = calling.failure()
    assert (error.code, error.message) == ("upstream_unreachable", "DeepSeek could not be reached.")
    assert words in error.reason
    assert "(try 2 of 2, /chat/completions)" in error.reason


def test_a_proxy_that_says_nothing_is_given_up_after_the_connect_timeout(
    connect: Connect, proxied: Socks
) -> None:
    error = Calling(connect(FAR, connect_timeout=0.3, tries=1)).failure()
    assert error.reason == (
        f"proxy {proxied.place}: timed out after 0.3 s (try 1 of 1, /chat/completions)"
    )


def greeted(peer: SocksPeer) -> None:
    peer.methods()


def asked_for_credentials(peer: SocksPeer) -> None:
    peer.methods()
    peer.credentials()


def amid_the_reply(peer: SocksPeer) -> None:
    peer.asked()
    peer.send(GRANTED[:5])


def amid_the_tls_handshake(peer: SocksPeer) -> None:
    peer.asked()
    peer.send(GRANTED)
    assert peer.take(1) == b"\x16"  # a TLS handshake (RFC 8446, section 5.1)


@pytest.mark.parametrize(
    "reach", [greeted, asked_for_credentials, amid_the_reply, amid_the_tls_handshake]
)
def test_a_stop_amid_the_handshake_closes_the_connection(
    connect: Connect, socks: Socks, monkeypatch: Environment, reach: Callable[[SocksPeer], None]
) -> None:
    monkeypatch.setenv("all_proxy", f"socks5h://{USER}:{PASSWORD}@{socks.place}")
    calling = Calling(connect("https://deepseek.example"))
    peer = socks.accept()
    reach(peer)
    calling.stop()
    assert peer.sees_the_end()
    assert socks.is_left_alone()
    assert calling.session.phase is Phase.CONNECTING


@pytest.mark.parametrize("reach", [before_the_headers, mid_stream])
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_a_stop_reaches_through_the_proxy(
    connect: Connect,
    proxied: Socks,
    trusted: trustme.CA,
    reach: Callable[[Peer, Calling], None],
    secured: bool,
) -> None:
    with DeepSeek(certificate(trusted, "deepseek.example") if secured else None) as deepseek:
        scheme = "https" if secured else "http"
        calling = Calling(connect(f"{scheme}://deepseek.example"))
        proxied.lead(deepseek.url)
        peer = deepseek.accept()
        peer.request()
        reach(peer, calling)
        calling.stop()
        assert peer.sees_the_end()
