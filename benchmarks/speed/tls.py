"""nginx that speaks TLS in front of the native upstream, as DeepSeek does."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from ..load import LoadError
from ..processes import Cores, Group, reserved_port
from ..relays.environments import program

_SITE = """
user @USER@;
daemon off;
worker_processes 1;
pid @FOLDER@/nginx.pid;
events { worker_connections 8000; }
http {
    access_log off;
    client_body_temp_path @FOLDER@/temporary;
    proxy_temp_path @FOLDER@/temporary;
    fastcgi_temp_path @FOLDER@/temporary;
    uwsgi_temp_path @FOLDER@/temporary;
    scgi_temp_path @FOLDER@/temporary;
    upstream plain {
        server @UPSTREAM@;
        keepalive 256;
    }
    server {
        listen 127.0.0.1:@PORT@ ssl backlog=4096;
        ssl_certificate @FOLDER@/cert.pem;
        ssl_certificate_key @FOLDER@/key.pem;
        location / {
            proxy_pass http://plain;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }
    }
}
"""


@contextmanager
def tls_front(upstream_url: str, cores: Cores, folder: Path) -> Iterator[str]:
    """The address at which the upstream speaks TLS. What is started meanwhile trusts it.

    It runs on the cores of the upstream: it is no part of what is measured.
    """
    nginx = program("nginx")
    if nginx is None:
        raise LoadError("nginx is not installed")
    authority = trustme.CA()
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        own = folder / f"tls-{port}"
        own.mkdir()
        _write_certificate(authority, own)
        values = {
            "USER": pwd.getpwuid(os.geteuid()).pw_name,
            "FOLDER": own,
            "UPSTREAM": urlsplit(upstream_url).netloc,
            "PORT": port,
        }
        site = _SITE
        for name, value in values.items():
            site = site.replace(f"@{name}@", str(value))
        path = own / "nginx.conf"
        path.write_text(site)
        command = [str(nginx), "-p", str(own), "-c", str(path), "-e", "stderr"]
        stack.enter_context(Group(command, own / "log", cores.others, port))
        with _trusted(own / "ca.pem"):
            yield f"https://127.0.0.1:{port}"


def _write_certificate(authority: trustme.CA, folder: Path) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    authority.cert_pem.write_to_path(folder / "ca.pem")


@contextmanager
def _trusted(path: Path) -> Iterator[None]:
    before = os.environ.get("REQUESTS_CA_BUNDLE")
    os.environ["REQUESTS_CA_BUNDLE"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["REQUESTS_CA_BUNDLE"]
        else:
            os.environ["REQUESTS_CA_BUNDLE"] = before
