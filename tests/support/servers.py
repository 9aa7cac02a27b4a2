"""Real processes for the tests: the servers, the simulated DeepSeek, and clients on raw sockets."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

import requests
from gunicorn.config import make_settings

from .fork_server import fork_server
from .waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]

_numbers = itertools.count(1)

GUNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0"]
if "control_socket_disable" in make_settings():  # since gunicorn 25.1
    GUNICORN.append("--no-control-socket")
OURS = [*GUNICORN, "-k", "gevent", "-c", "python:chatproxy.gunicorn_config"]
#: Those that are neither gunicorn nor of gevent or Flask.
OTHERS = ("a2wsgi", "cheroot", "hypercorn", "uvicorn", "waitress")
COMMANDS = {
    "gunicorn": OURS,
    "gunicorn-cold": OURS,
    "gunicorn-pywsgi": [*GUNICORN, "-k", "gevent_pywsgi"],
    "gunicorn-threads": [*GUNICORN, "-k", "gthread", "--threads", "64"],
    "pywsgi": [sys.executable, "-m", "tests.support.serving", "pywsgi"],
    "werkzeug": [sys.executable, "-m", "tests.support.serving", "werkzeug"],
    # With none of the package's settings, not even those that gunicorn finds by itself.
    "gunicorn-plain": [*GUNICORN, "-k", "gevent", "-c", os.devnull],
    "gunicorn-sync": [*GUNICORN, "-k", "sync", "-c", os.devnull],
    "gunicorn-preload": [*GUNICORN, "-k", "gevent", "--preload", "-c", os.devnull],
    **{name: [sys.executable, "-m", "tests.support.serving", name] for name in OTHERS},
}
#: Which fork server begins them (:mod:`tests.support.fork_server`); the others begin from nothing.
PREPARED = {
    **dict.fromkeys(("gunicorn", "gunicorn-pywsgi", "pywsgi"), "gevent"),
    **dict.fromkeys(("gunicorn-sync", "gunicorn-threads", "werkzeug", *OTHERS), "threads"),
}


#: What the tests set, unless they are about it: the process that counts tokens takes a third of a
#: second of a processor for each application.
UNCOUNTED = {"CHATPROXY_TOKENIZER": "none"}


def new_id():
    """A session id of the form that the page makes."""
    return f"session_{time.time_ns() // 1_000_000}_{next(_numbers)}"


def clean_environment(**settings):
    """This process's environment without anything that would change what is tested."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.startswith(("CHATPROXY_", "DEEPSEEK_"))
    }
    settings = {"PYTHONUNBUFFERED": 1, **UNCOUNTED, **settings}
    return {**kept, **{name: str(value) for name, value in settings.items()}}


class Process:
    """A server process that writes a log and says where it listens.

    :param prepared: which fork server begins it; None for one that begins from nothing.
    """

    ready = re.compile(r"(?:Listening at:|simulated DeepSeek on) (https?://[\w.:]+)")
    #: Seconds that it may take to start.
    patience = 30

    def __init__(self, command, log_path, environment=None, prepared=None):
        self.log_path = Path(log_path)
        environment = environment or clean_environment()
        with self.log_path.open("ab") as log:
            if prepared:
                self.process = fork_server(prepared).start(command[2:], environment, log)
            else:
                self.process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        try:
            self.url = wait_for(self._address, self.patience, f"the start of {command}")
        except BaseException:
            self.process.kill()
            raise
        self.port = int(self.url.rsplit(":", 1)[1])

    def _address(self):
        assert self.process.poll() is None, self.log()
        found = self.ready.search(self.log())
        return found and found[1]

    def log(self):
        return self.log_path.read_text()

    def lines(self, text):
        """Our own lines in the log that hold ``text``, without the time."""
        ours = [line.partition("[SSE]") for line in self.log().splitlines()]
        return [mark + rest for _, mark, rest in ours if mark and text in rest]

    def reasons(self, session_id):
        """Why DeepSeek failed a session, try by try, as operators read it."""
        return re.findall(rf"DeepSeek failed {re.escape(session_id)}[,:].*", self.log())

    def stop(self, number=signal.SIGTERM):
        """End it, by force if it does not end by itself; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


class DeepSeek(Process):
    """The simulated DeepSeek, by its command line."""

    def __init__(self, log_path, certfile=None, keyfile=None, ca=None):
        command = [sys.executable, "-m", "chatproxy", "simulate", "--port", "0"]
        if certfile:
            command += ["--certfile", certfile, "--keyfile", keyfile]
        self.ca = ca
        super().__init__(command, log_path, prepared="threads")

    def ledger(self, **query):
        return requests.get(f"{self.url}/ledger", params=query, verify=self.ca, timeout=10).json()

    def entries(self, tag):
        return self.ledger(tag=tag)["requests"]

    def entry(self, tag, condition=lambda entry: True, seconds=10.0):
        """The newest entry with this tag, once it fulfils the condition."""

        def look():
            found = self.entries(tag)
            return found and condition(found[-1]) and found[-1]

        return wait_for(look, seconds, f"the ledger's entry {tag}")

    def gone(self, tag, seconds=10.0):
        """The newest entry with this tag, once its peer has gone away."""
        return self.entry(tag, lambda entry: entry["peer_gone_at"] is not None, seconds)

    def clear(self):
        requests.delete(f"{self.url}/ledger", verify=self.ca, timeout=10).raise_for_status()


class Proxy(Process):
    """chatproxy under one of the servers in ``COMMANDS``."""

    def __init__(self, kind, upstream, log_path, options=(), **settings):
        self.kind = kind
        command = [*COMMANDS[kind], *options]
        if kind.startswith("gunicorn"):
            command.append("tests.support.serving:app")
        environment = clean_environment(DEEPSEEK_BASE_URL=upstream, **settings)
        super().__init__(command, log_path, environment, PREPARED.get(kind))

    def _address(self):
        if url := super()._address():
            # gunicorn listens before its worker has loaded the application.
            requests.get(f"{url}/healthz", timeout=30).raise_for_status()
        return url

    def live(self):
        """The phases of the sessions that live, by their ids."""
        return requests.get(f"{self.url}/live", timeout=30).json()

    def wait_for_call(self, session_id):
        """Wait until a run has begun a call."""
        calls = partial(requests.get, f"{self.url}/calls", timeout=30)
        wait_for(lambda: calls().json().get(session_id), message="a call")

    def resources(self):
        """How many descriptors, threads and greenlets it has, and which threads."""
        return requests.get(f"{self.url}/resources", timeout=30).json()

    def wait_for_phase(self, session_id, phase):
        wait_for(lambda: self.live().get(session_id) == phase, message=phase)

    def wait_until_empty(self, seconds=10.0):
        wait_for(lambda: self.live() == {}, seconds, "an empty registry")

    def start(self, session_id, path="stream", **fields):
        """Begin a stream; return the client's end."""
        return Client(self.port).post_stream(session_id, path, **fields)

    def cancel(self, session_id):
        """Press Stop: the status and the JSON of the answer."""
        answer = requests.post(f"{self.url}/api/chat/cancel/{session_id}", timeout=10)
        return answer.status_code, answer.json()

    def closing_line(self, session_id):
        """The closing line of a session, once it is there."""
        text = f"{session_id} ended "
        return wait_for(lambda: self.lines(text), message=text)[0]


def chat(**fields):
    """A body for the stream route; ``simulate`` chooses what the simulated DeepSeek does."""
    return {"messages": [{"role": "user", "content": "Hello"}], **fields}


def ask(server, session_id=None, **fields):
    """Ask a server for an answer, and wait for all of it: the response."""
    return requests.post(
        f"{server.url}/api/chat/stream",
        json=chat(**fields),
        headers={"X-Session-Id": session_id or new_id()},
        timeout=30,
    )


class Client:
    """A client on a raw socket, that can leave in any way."""

    #: Those of the present test; a fixture closes them.
    opened: ClassVar[list] = []

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        self.opened.append(self)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.received = b""

    def post_stream(self, session_id, path="stream", **fields):
        body = json.dumps(chat(**fields)).encode()
        self.send(
            b"POST /api/chat/%b HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nX-Session-Id: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), session_id.encode(), len(body), body)
        )
        return self

    def send(self, data):
        self.socket.sendall(data)

    def read_until(self, text):
        """Read on until ``text`` has come; return all that came so far."""
        received, looked = bytearray(self.received), 0
        while received.find(text, looked) < 0:
            looked = max(0, len(received) - len(text))
            try:
                piece = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"{text!r} did not come after {received!r}") from None
            assert piece, f"the server closed the connection before {text!r}: {received!r}"
            received += piece
        self.received = bytes(received)
        return self.received

    def read_answer(self):
        """Read a chunked answer to its end; return the status and the decoded body."""
        self.read_until(b"\r\n0\r\n\r\n")
        head, _, rest = self.received.partition(b"\r\n\r\n")
        body, at = bytearray(), 0
        while at < len(rest):
            begin = rest.index(b"\r\n", at) + 2
            end = begin + int(rest[at : begin - 2], 16)
            body += rest[begin:end]
            at = end + 2
        return int(head.split()[1]), bytes(body)

    def leave(self):
        """Close the connection in the ordinary way."""
        self.socket.close()

    def reset(self):
        """Close the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def events(body):
    """The events in a body, as a list of dictionaries of their fields."""
    lines = [line for line in body.decode().split("\n") if not line.startswith(":")]
    blocks = [block for block in "\n".join(lines).split("\n\n") if block.strip()]
    return [dict(line.split(": ", 1) for line in block.strip("\n").split("\n")) for block in blocks]


def data_events(body):
    """DeepSeek's events in a body."""
    return [each for each in events(body) if "event" not in each and each["data"] != "[DONE]"]


@contextlib.contextmanager
def black_hole():
    """A port at which connecting never ends: its backlog is full. Yields its address."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield "http://{}:{}".format(*address)


@contextlib.contextmanager
def mute_listener():
    """A port that accepts and never says a word. Yields the listening socket."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.settimeout(10)
        yield listener
