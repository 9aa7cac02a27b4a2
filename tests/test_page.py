"""How the page is sent: in which content coding, with which validators, and what may be cached."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, TestResponse

from chatproxy import create_app
from chatproxy.web import page

PLAIN, BR, GZIP = b"plain " * 300, b"as brotli makes it", b"somewhat longer, as gzip makes it"
FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    (tmp_path / "script.js").write_bytes(PLAIN)
    (tmp_path / "script.js.br").write_bytes(BR)
    (tmp_path / "script.js.gz").write_bytes(GZIP)
    (tmp_path / "small.svg").write_bytes(b"<svg/>")
    monkeypatch.setattr(page, "ASSETS", tmp_path)
    return create_app({"DEEPSEEK_BASE_URL": "http://127.0.0.1:1"}).test_client()


def ask(client: FlaskClient, path: str, method: str = "GET", **headers: str) -> TestResponse:
    """Reads all of the reply, so that its file is closed."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(path, method=method, headers=given, buffered=True)


def get(client: FlaskClient, accept: str | None, **headers: str) -> TestResponse:
    given = {} if accept is None else {"Accept_Encoding": accept}
    return ask(client, "/assets/script.js", **given, **headers)


@pytest.mark.parametrize(
    ("accept", "coding", "body"),
    [
        *((each, None, PLAIN) for each in (None, "", "deflate", "*;q=0", "gzip;q=0, br;q=0")),
        ("identity, br;q=0.5", None, PLAIN),
        *((each, "gzip", GZIP) for each in ("gzip", "gzip, br;q=0.5", "br;q=0, *")),
        *((each, "br", BR) for each in ("gzip, deflate, br, zstd", "br;q=0.1", "BR", "*")),
    ],
)
def test_the_client_chooses_the_coding(
    client: FlaskClient, accept: str | None, coding: str | None, body: bytes
) -> None:
    response = get(client, accept)
    assert response.data == body
    assert response.headers.get("Content-Encoding") == coding
    assert response.mimetype == "text/javascript"
    assert response.content_length == len(body)
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.headers["Cache-Control"] == FOREVER


def test_head_tells_what_get_would(client: FlaskClient) -> None:
    got = get(client, "br")
    head = ask(client, "/assets/script.js", "HEAD", Accept_Encoding="br")
    assert head.data == b""
    without_date = [each for each in got.headers if each[0] != "Date"]
    assert [each for each in head.headers if each[0] != "Date"] == without_date


def test_a_file_with_no_compressed_form_goes_as_it_is(client: FlaskClient) -> None:
    response = ask(client, "/assets/small.svg", Accept_Encoding="br, gzip")
    assert response.data == b"<svg/>"
    assert "Content-Encoding" not in response.headers
    assert response.headers["Vary"] == "Accept-Encoding"


def test_each_form_has_an_etag_of_its_own(client: FlaskClient) -> None:
    tags = {accept: get(client, accept).headers["ETag"] for accept in ("br", "gzip", "identity")}
    assert len(set(tags.values())) == 3
    same = get(client, "br", If_None_Match=tags["br"])
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["Vary"] == "Accept-Encoding"
    assert same.headers["Cache-Control"] == FOREVER
    assert get(client, "gzip", If_None_Match=tags["br"]).data == GZIP


def test_a_range_is_of_the_form_that_is_sent(client: FlaskClient) -> None:
    part = get(client, "br", Range="bytes=3-8")
    assert (part.status_code, part.data) == (206, BR[3:9])
    assert part.headers["Content-Range"] == f"bytes 3-8/{len(BR)}"
    assert part.headers["Content-Encoding"] == "br"
    other = get(client, "gzip").headers["ETag"]
    assert get(client, "br", Range="bytes=3-8", If_Range=other).data == BR


@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-Range"])
@pytest.mark.parametrize("date", ["Sun, 01 Jan 99999999999 00:00:00 GMT", "soon", "0", "\xff"])
def test_a_date_that_is_none_is_no_failure(client: FlaskClient, name: str, date: str) -> None:
    assert get(client, "br", **{name: date}).data == BR
    part = get(client, "br", **{name: date, "Range": "bytes=3-8"})
    assert part.data == (BR if name == "If-Range" else BR[3:9])


@pytest.mark.parametrize("path", ["../secret", "..%2fsecret", "/etc/hostname", "none.js", ""])
def test_nothing_else_can_be_read(client: FlaskClient, tmp_path: Path, path: str) -> None:
    (tmp_path.parent / "secret").write_text("secret")
    assert ask(client, f"/assets/{path}").status_code in (404, 308)


def test_the_page_itself_is_asked_for_each_time(client: FlaskClient) -> None:
    response = ask(client, "/")
    assert response.headers["Cache-Control"] == "no-cache"
    assert ask(client, "/", If_None_Match=response.headers["ETag"]).status_code == 304


def test_what_it_names_is_below_its_mount() -> None:
    """Another application may have the rest of the origin."""
    app = create_app({"DEEPSEEK_BASE_URL": "http://127.0.0.1:1"})
    client = Client(DispatcherMiddleware(lambda *_: [], {"/globex": app}))
    assert client.get("/globex").location.endswith("/globex/")
    for path in ("/globex/", "/globex/diagram.html"):
        text = client.get(path, buffered=True).text
        addresses = re.findall(r'(?:href|src)="([^"]+)"', text)
        for address in addresses:
            assert client.get(urljoin(path, address), buffered=True).status_code == 200, address
        assert addresses
        assert all(urljoin(path, address).startswith("/globex/") for address in addresses)
