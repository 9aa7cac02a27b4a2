"""A real nginx in front of the servers, run as an ordinary process, and clients for it."""

import contextlib
import itertools
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from .servers import ROOT, Client, chat

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

SITE = ROOT / "deploy" / "nginx.conf"

_MAIN = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
    {context}
    include {folder}/site.conf;
}}
"""

#: What a site inherits, all of it set against us: so the site itself must say what matters.
HOSTILE = """
    client_body_buffer_size 1k;
    client_max_body_size 1k;
    gzip on;
    gzip_min_length 1;
    gzip_proxied any;
    gzip_types *;
    proxy_ignore_client_abort on;
    proxy_ignore_headers X-Accel-Buffering;
    proxy_next_upstream error timeout non_idempotent;
    proxy_read_timeout 1s;
"""


def replaced(text, values):
    """The text with each key of ``values``, which must be there once, replaced."""
    for old, new in values.items():
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


class Nginx:
    """nginx with one site, at ``port``.

    :param folder: an empty one, for all that it reads and writes.
    :param certificate: the folder with its ``cert.pem`` and ``key.pem``.
    :param servers: the addresses that stand behind it.
    :param site: the text of the site.
    :param context: what else is in the http context.
    :param values: more of the site's text, and what to put in its place.
    """

    def __init__(self, folder, certificate, servers, *, site=None, context=HOSTILE, values=None):
        self.folder = Path(folder)
        # nginx takes the socket over, as it does from a master before it; so the port is ours.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        given = {
            "server 127.0.0.1:8000;": " ".join(f"server {address};" for address in servers),
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;",
            "/etc/nginx/tls/fullchain.pem": f"{certificate}/cert.pem",
            "/etc/nginx/tls/privkey.pem": f"{certificate}/key.pem",
            **(values or {}),
        }
        try:
            self._write(replaced(SITE.read_text() if site is None else site, given), context)
            self._run()
        except BaseException:
            self._listener.close()
            raise

    def _write(self, site, context):
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        main = _MAIN.format(folder=self.folder, user=user, context=context)
        (self.folder / "nginx.conf").write_text(main)
        (self.folder / "site.conf").write_text(site)

    def _run(self):
        command = [NGINX, "-p", f"{self.folder}", "-c", "nginx.conf", "-e", "error.log"]
        check = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=20)
        assert check.returncode == 0, check.stderr
        descriptor = self._listener.fileno()
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "NGINX": f"{descriptor};"},
            pass_fds=[descriptor],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def log(self):
        return (self.folder / "error.log").read_text()

    def close(self):
        """End its master, which ends its workers."""
        self.process.terminate()
        self.process.wait(20)
        self._listener.close()


class TlsClient(Client):
    """A client on a raw socket in TLS, that speaks HTTP/1.1."""

    def __init__(self, port, context):
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")


class Http2Client:
    """A client that speaks HTTP/2: as in a browser, all its requests share one connection."""

    def __init__(self, port, context):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        Client.opened.append(self)
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        assert self.socket.selected_alpn_protocol() == "h2"
        self._protocol = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self._protocol.initiate_connection()
        self._protocol.update_settings({h2.settings.SettingCodes.ENABLE_PUSH: 0})
        self._streams = itertools.count(1, 2)
        self._headers = {}
        self._bodies = {}
        self._ended = set()
        self.stream = 0  # the newest

    def announce(self, method, path, headers=()):
        """Send the head of a request, whose body may follow; return the number of its stream."""
        self.stream = next(self._streams)
        self._bodies[self.stream] = b""
        pseudo = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        self._protocol.send_headers(self.stream, [*pseudo.items(), *headers])
        self._flush()
        return self.stream

    def send(self, method, path, headers=(), body=b""):
        """Send a request with a small body; return the number of its stream."""
        self.announce(method, path, headers)
        self._protocol.send_data(self.stream, body, end_stream=True)
        self._flush()
        return self.stream

    def post_stream(self, session_id, **fields):
        headers = [("content-type", "application/json"), ("x-session-id", session_id)]
        self.send("POST", "/api/chat/stream", headers, json.dumps(chat(**fields)).encode())
        return self

    def read_until(self, text, stream=None):
        """Read on until ``text`` has come in the stream; return all that came so far."""
        stream = stream or self.stream
        while text not in self._bodies[stream]:
            assert stream not in self._ended, f"no {text!r} in {self._bodies[stream]!r}"
            self._receive()
        return self._bodies[stream]

    def read_answer(self, stream=None):
        """Read a whole answer; return its status and its body."""
        stream = stream or self.stream
        while stream not in self._ended:
            self._receive()
        return int(self._headers[stream][":status"]), self._bodies[stream]

    def headers(self, stream=None):
        """The headers of an answer, once they have come."""
        stream = stream or self.stream
        while stream not in self._headers:
            self._receive()
        return self._headers[stream]

    def reset(self):
        """Give the newest stream up, and keep the connection: as a page that aborts a fetch."""
        self._protocol.reset_stream(self.stream, error_code=h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def leave(self):
        """Close the connection with all of its streams."""
        with contextlib.suppress(OSError):
            self.socket.close()

    def _flush(self):
        self.socket.sendall(self._protocol.data_to_send())

    def _receive(self):
        piece = self.socket.recv(65536)
        assert piece, "the server closed the connection"
        for event in self._protocol.receive_data(piece):
            if isinstance(event, h2.events.ResponseReceived):
                self._headers[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self._bodies[event.stream_id] += event.data
                self._protocol.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self._ended.add(event.stream_id)
        self._flush()


def tls_context(ca_file):
    """What a client needs to trust the certificates of the tests."""
    return ssl.create_default_context(cafile=ca_file)
