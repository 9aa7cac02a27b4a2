"""Fixtures that tests of several modules share; :mod:`conftest` has those of the servers."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trustme
from flask import Flask

from chatproxy import Answer, ChatProxy, Run, extension
from chatproxy.config import Settings
from chatproxy.server.resolver import ThreadedResolver
from chatproxy.upstreams import tries as tries_module
from chatproxy.upstreams.chat_completions import ChatCompletions

from .support.instant import HELLO, Instant
from .support.phases import Phases
from .support.played import FAR, KEY, Connect, DeepSeek, Resolver
from .support.postgresql import POSTGRES, PostgreSQL

# The same examples in every run, however slow the machine is.
hypothesis.settings.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def reach(start_proxy: Any, deepseek: Any) -> Iterator[Callable[..., Any]]:
    """Begins streams that stay in a phase (:mod:`tests.support.phases`)."""
    with contextlib.closing(Phases(start_proxy, deepseek)) as phases:
        yield phases.reach


@pytest.fixture
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the machine sets for its proxies and certificates; short pauses."""
    for name in os.environ:
        if name.upper().endswith(("_PROXY", "_CA_BUNDLE")) or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setattr(tries_module, "FIRST_PAUSE", 0.001)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes upstreams that are closed after the test."""
    with contextlib.ExitStack() as stack:

        def connect(base_url: str = FAR, **settings: Any) -> ChatCompletions:
            upstream = ChatCompletions(
                Settings(api_key=KEY, base_url=base_url, **settings), ThreadedResolver()
            )
            stack.callback(upstream.close)
            return upstream

        yield connect


@pytest.fixture
def played() -> Iterator[DeepSeek]:
    """A DeepSeek that the test plays."""
    with DeepSeek() as played:
        yield played


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the environment names."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return authority


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Resolver]]:
    """Puts a resolver in place; it lets go of everybody at the end."""
    resolvers: list[Resolver] = []

    def put(*addresses: tuple[str, int], error: Exception | None = None, **name: str) -> Resolver:
        families = [socket.AF_INET6 if ":" in host else socket.AF_INET for host, _ in addresses]
        found = [
            (family, socket.SOCK_STREAM, 0, "", each)
            for family, each in zip(families, addresses, strict=True)
        ]
        resolvers.append(Resolver(error or found, **name))
        monkeypatch.setattr(socket, "getaddrinfo", resolvers[-1])
        return resolvers[-1]

    yield put
    for resolver in resolvers:
        resolver.go_on.set()


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of nginx."""
    folder = tmp_path_factory.mktemp("nginx-tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    return folder


# ---- databases for records ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A real PostgreSQL; a test that kills it starts it again."""
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    with PostgreSQL() as postgresql:
        yield postgresql


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind; of PostgreSQL's, as a user of one sees it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    url: str = request.getfixturevalue("postgresql").new_user()
    return url


# ---- an application without a network -----------------------------------------------------------


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Instant:
    upstream = Instant()
    monkeypatch.setattr(extension, "ChatCompletions", lambda *_: upstream)
    return upstream


@pytest.fixture
def app(upstream: Instant, tmp_path: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(
        DEEPSEEK_BASE_URL="http://127.0.0.1:9",
        CHATPROXY_RUN_DIR=str(tmp_path),
        CHATPROXY_RUN_GRACE=0.2,
        CHATPROXY_LOG_BYTES=20_000,
    )
    return app


@pytest.fixture
def chat(app: Flask) -> ChatProxy:
    return ChatProxy(app)


@pytest.fixture
def answer(chat: ChatProxy) -> Callable[..., Answer]:
    """Begins the answer that a function makes."""

    def begin(function: Callable[[Run, dict[str, Any]], Any], **fields: Any) -> Answer:
        name = f"run-{len(chat.functions)}"
        chat.run(name)(function)
        return chat.start({**HELLO, "model": f"run:{name}", **fields}, session_id=name)

    return begin
