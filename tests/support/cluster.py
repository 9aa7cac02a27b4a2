"""Several workers that serve the same users, each of which can be spoken to on purpose.

A worker is reached at a port of its own (:mod:`tests.support.worker_ports`).
"""

import contextlib
import http.client
import json
import os
import re
import signal
from functools import partial
from pathlib import Path

import requests

from .servers import Client, Proxy, chat, new_id
from .valkey import Valkey
from .waiting import wait_for

#: Of a server whose workers can be reached one by one.
OPTIONS = ("-c", "python:tests.support.worker_ports", "--keep-alive", "60")
WAYS = ("local", "valkey")
ENDLESS = {"rate": 20, "tokens": 1_000_000}


def token_of(owner):
    return f"token-of-{owner}-0123456789"


def tokens(*owners):
    """The setting that lets these owners in."""
    return ",".join(f"{owner}:{token_of(owner)}" for owner in owners)


class Connection(http.client.HTTPConnection):
    """A connection that is closed at the end of the test, if not before."""

    def __init__(self, port):
        super().__init__("127.0.0.1", port, timeout=30)
        Client.opened.append(self)

    leave = http.client.HTTPConnection.close


class Worker:
    """One worker process of a server."""

    def __init__(self, proxy, pid):
        self.proxy = proxy
        self.pid = pid
        self._connection = None
        self._port = None

    def connect(self):
        """A new connection to this very worker."""
        self._port = self._port or wait_for(self._told_port, 20, f"the port of {self.pid}")
        return Connection(self._port)

    def _told_port(self):
        told = re.search(rf"Worker {self.pid} listens at port (\d+)", self.proxy.log())
        return told and int(told[1])

    def start(self, session_id, owner="ada", headers=(), model=None, **fields):
        """Begin a stream; ``.response()`` waits for its headers."""
        return Stream(self.connect(), session_id, owner).post(fields, headers, model)

    def read(self, session_id, owner="ada", after=None):
        """Read a stream again."""
        return Stream(self.connect(), session_id, owner).get(after)

    def sessions(self, owner="ada"):
        """The owner's sessions."""
        connection = self.connect()
        headers = {"Authorization": f"Bearer {token_of(owner)}"}
        connection.request("GET", "/api/chat/sessions", headers=headers)
        return json.loads(connection.getresponse().read())["sessions"]

    def cancel(self, session_id, owner="ada"):
        """Press Stop at this worker: the status and the JSON of the answer."""
        if self._connection is None:
            self._connection = self.connect()
        headers = {"Authorization": f"Bearer {token_of(owner)}", "Content-Length": "0"}
        self._connection.request("POST", f"/api/chat/cancel/{session_id}", headers=headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self):
        if self._connection is not None:
            self._connection.close()


def begin(worker, **fields):
    """A stream that runs, after its first event."""
    stream = worker.start(new_id(), **{**ENDLESS, **fields})
    assert stream.status == 200
    stream.read_event()
    return stream


def who_answers(proxy):
    """The worker that takes a new connection; None if it does not answer."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{proxy.url}/pid", timeout=30).json()


def press_stop(proxy, session_id, owner="ada"):
    """Press Stop once, at any worker.

    None if it could not be answered, or its worker died over it; it may have been carried out all
    the same.
    """
    url = f"{proxy.url}/api/chat/cancel/{session_id}"
    headers = {"Authorization": f"Bearer {token_of(owner)}"}
    with contextlib.suppress(requests.RequestException):
        answer = requests.post(url, headers=headers, timeout=30)
        if answer.status_code != 503:
            return answer.status_code, answer.json()
    return None


def stop_anywhere(proxy, session_id, owner="ada", seconds=20):
    """Press Stop until it is answered."""
    press = partial(press_stop, proxy, session_id, owner)
    return wait_for(press, seconds, f"an answer to the Stop of {session_id}")


class Stream:
    """A stream as its client sees it."""

    def __init__(self, connection, session_id, owner="ada"):
        self.id = session_id
        self.connection = connection
        self._headers = {"Authorization": f"Bearer {token_of(owner)}"}
        self._response = None
        Client.opened.append(self)

    @classmethod
    def begin(cls, proxy, session_id, **fields):
        """Begin a stream on whichever worker."""
        return cls(Connection(proxy.port), session_id).post(fields)

    @classmethod
    def again(cls, proxy, session_id, after=None):
        """Read a stream again on whichever worker."""
        return cls(Connection(proxy.port), session_id).get(after)

    def post(self, fields, headers=(), model=None):
        named = {} if model is None else {"model": model}
        body = json.dumps(chat(simulate={"tag": self.id, **fields}, **named))
        kind = {"X-Session-Id": self.id, "Content-Type": "application/json"}
        headers = {**self._headers, **kind, **dict(headers)}
        self.connection.request("POST", "/api/chat/stream", body, headers)
        return self

    def get(self, after):
        headers = dict(self._headers)
        if after is not None:
            headers["Last-Event-ID"] = str(after).encode()
        self.connection.request("GET", f"/api/chat/stream/{self.id}", headers=headers)
        return self

    def response(self):
        if self._response is None:
            self._response = self.connection.getresponse()
        return self._response

    @property
    def status(self):
        return self.response().status

    def read(self):
        """The rest of the body; after that the client leaves."""
        body = self.response().read()
        self.leave()
        return body

    def read_event(self):
        """The next lines up to an empty one, without comments."""
        lines = []
        while (line := self.response().readline()) not in (b"\n", b""):
            if not line.startswith(b":"):
                lines.append(line)
        return b"".join(lines)

    def leave(self):
        if self._response is not None:
            self._response.close()
        self.connection.close()


class Cluster:
    """The workers of one or several servers."""

    def __init__(self, proxies, run_dirs=(), workers=1):
        self.proxies = proxies
        self.run_dirs = [Path(each) for each in run_dirs]
        self.workers = [each for proxy in proxies for each in workers_of(proxy, workers)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            worker.close()
        with contextlib.ExitStack() as stack:
            for proxy in self.proxies:
                stack.enter_context(proxy)
                # Else it would replace the workers that are killed before it.
                proxy.process.send_signal(signal.SIGSTOP)
                stack.callback(kill_all, children(proxy))

    def lines(self, text):
        return [line for proxy in self.proxies for line in proxy.lines(text)]

    def links(self):
        """The keys that are held in the run directories."""
        return [each for path in self.run_dirs for each in path.iterdir() if each.is_symlink()]

    def sockets(self):
        return [each for path in self.run_dirs for each in path.glob("*.sock")]


def start(kind, deepseek, logs, tmp_path, *, servers=1, workers=1, **settings):
    """Start servers; ``settings`` are those of each."""
    run_dirs = [tmp_path / f"run-{number}" for number in range(servers)]
    proxies = []
    try:
        for run_dir in run_dirs:
            each = {"CHATPROXY_RUN_DIR": str(run_dir), **settings}
            options = [*OPTIONS, "--workers", str(workers)]
            proxies.append(Proxy(kind, deepseek.url, logs(kind), options, **each))
        return Cluster(proxies, run_dirs, workers)
    except BaseException:
        for proxy in proxies:
            with proxy:
                pass
        raise


@contextlib.contextmanager
def meeting(way, deepseek, logs, folder, *, workers, **settings):
    """Start so many workers, which find each other in one of the ``WAYS``.

    Those of one server meet in its run directory; those of two, half of them each, in a Valkey.
    """
    with contextlib.ExitStack() as stack:
        servers = 1
        if way == "valkey":
            servers, valkey = 2, stack.enter_context(Valkey())
            valkey.settle("chatproxy")
            settings["CHATPROXY_PEERS"] = valkey.url
        number = {"servers": servers, "workers": workers // servers}
        started = start("gunicorn", deepseek, logs, folder, **number, **settings)
        yield stack.enter_context(started)


def children(proxy):
    """The worker processes of a server."""
    master, listed, found = proxy.process.pid, "", []
    with contextlib.suppress(OSError):
        listed = Path(f"/proc/{master}/task/{master}/children").read_text()
    for pid in listed.split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z":
                found.append(int(pid))
    return sorted(found)


def workers_of(proxy, number):
    """The workers of a server, once there are so many."""
    pids = wait_for(lambda: len(found := children(proxy)) == number and found, 20, "all workers")
    return [Worker(proxy, pid) for pid in pids]


def kill_all(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
