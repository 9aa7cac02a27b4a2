"""The native upstream and load (``benchmarks/native``): built, started, and asked.

They cost a fraction of what they measure, so that one core has room for both. Times are
nanoseconds of the monotonic clock, the one of :func:`time.monotonic_ns`, unless a name says
otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.servers import ROOT

from .load import LoadError
from .processes import Cores, Server, on

_SOURCES = ROOT / "benchmarks" / "native"
_BUILT = ROOT / ".venv" / "benchmarks"
_FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
# The load itself gives up after 30 s in which nothing came to those that it waits for.
_SECONDS_TO_REPLY = 300.0
_SECONDS_TO_END = 5.0


def build() -> Path:
    """Compile what is older than its source; return the folder of the programs.

    :raises LoadError: where the compiler is missing or refuses, with what it says.
    """
    _BUILT.mkdir(parents=True, exist_ok=True)
    newest = max(each.stat().st_mtime for each in _SOURCES.iterdir())
    for name in ("upstream", "load"):
        program = _BUILT / name
        if not program.exists() or program.stat().st_mtime < newest:
            _compile(_SOURCES / f"{name}.c", program)
    return _BUILT


def _compile(source: Path, program: Path) -> None:
    # Under another name first: whoever runs at the same time has a whole program, old or new.
    made = program.with_name(f"{program.name}.{os.getpid()}")
    command = [os.environ.get("CC", "cc"), *_FLAGS, str(source), "-o", str(made)]
    try:
        result = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        message = f"{command[0]} is needed to build {source.name} (Debian's package gcc)"
        raise LoadError(message) from None
    if result.returncode:
        raise LoadError(f"{source.name} was not built: {result.stderr}")
    made.replace(program)


@dataclass(frozen=True)
class Entry:
    """What became of one request, as the upstream saw it.

    ``gone`` is when the peer left before the end, ``events`` how many were sent to it,
    ``last_sends`` when the newest of them were (16 at most).
    """

    received: int
    gone: int | None
    finished: bool
    events: int
    last_sends: list[int]


@dataclass(frozen=True)
class Totals:
    """What the upstream has seen: the answers that run now, all requests, all events sent."""

    open: int
    requests: int
    events: int


class Upstream(Server):
    """The native stand-in for DeepSeek. What it does is told by words in the message.

    ``rate=`` events a second (0: as fast as they are taken), ``tokens=`` how many (0: without end),
    ``silent=1`` for no more than the first, ``tag=`` for the ledger.
    """

    def __init__(self, log_path: Path, cores: Cores) -> None:
        super().__init__([str(build() / "upstream"), "--port", "0"], log_path, cores.others)

    def ledger(self, tag: str) -> list[Entry]:
        """The requests with this tag, in their order."""
        return [Entry(**each) for each in self._get(tag=tag)["requests"]]

    def totals(self) -> Totals:
        """The sums over all requests since the start."""
        return Totals(**self._get())

    def forget(self) -> None:
        """Drop the entries of answers that have ended. The totals stay."""
        requests.delete(f"{self.url}/ledger", timeout=20).raise_for_status()

    def _get(self, **query: str) -> dict[str, Any]:
        reply: dict[str, Any] = requests.get(f"{self.url}/ledger", query, timeout=20).json()
        return reply


@dataclass(frozen=True)
class Opened:
    """Streams that were opened.

    ``first`` has, for each that began, the milliseconds from its connect to its first event;
    ``failures`` what the first few others received instead.
    """

    open: int
    failed: int
    failures: list[str]
    first: list[float]


@dataclass(frozen=True)
class Answers:
    """Answers from connect to end. ``whole`` ones had all their events and the ``[DONE]``."""

    answers: int
    whole: int
    events: int
    seconds: float
    failures: list[str]
    first: list[float]


@dataclass(frozen=True)
class Delays:
    """How long events were under way, in milliseconds, to within half a per cent."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class Mark:
    """What came to the open streams since the mark before.

    ``served`` is how many had an event, ``ended`` how many the server ended though nobody had
    stopped them; ``delay_ms`` is None where nothing came. ``cpu`` is what the load has used so far,
    in seconds.
    """

    t: int
    events: int
    served: int
    live: int
    ended: int
    delay_ms: Delays | None
    cpu: float


@dataclass(frozen=True)
class Stopped:
    """One Stop: ``sent`` is the time just before its connect, or before the close of the stream.

    ``status`` is the answer's, 0 where there is none; ``answered_ms`` is the time from ``sent`` to
    the first byte of the answer.
    """

    tag: str
    sent: int
    status: int
    answered_ms: float | None


class Load:
    """The clients, as a context.

    In the body, the headers and the paths ``@TAG@`` stands for a stream's own name and ``@SPEC@``
    for what the upstream is to do. Each method raises :class:`LoadError` where the load can't do
    what it is told; that a stream or an answer failed is in the reply.

    :param path: the path that streams are posted to.
    :param headers: are sent with every request.
    :param cancel_path: what a Stop in the mode ``cancel`` is posted to.
    """

    def __init__(
        self,
        port: int,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        cancel_path: str | None,
        cores: Cores,
    ) -> None:
        self._unread = b""
        options = ["--port", str(port), "--path", path]
        for name, value in {"Content-Type": "application/json", **headers}.items():
            options += ["--header", f"{name}: {value}"]
        if cancel_path is not None:
            options += ["--cancel-path", cancel_path]
        with tempfile.NamedTemporaryFile(suffix=".json") as file, on(cores.others):
            file.write(body)
            file.flush()
            self._process = subprocess.Popen(
                [str(build() / "load"), *options, "--body-file", file.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                self.mark()  # its reply says that the file has been read
            except BaseException:
                self.__exit__()
                raise

    def open(self, number: int, prefix: str, spec: str) -> Opened:
        """Open so many streams that stay, ``<prefix>_1`` and so on."""
        return Opened(**self._ask(f"open {number} {prefix} {spec}"))

    def answers(self, number: int, concurrency: int, prefix: str, spec: str) -> Answers:
        """Have so many answers, so many at a time. ``spec`` must tell how many ``tokens=``."""
        return Answers(**self._ask(f"answers {number} {concurrency} {prefix} {spec}"))

    def probe(self, number: int, interval: float, prefix: str, spec: str) -> Answers:
        """Have so many answers, one every ``interval`` milliseconds."""
        command = f"probe {number} {interval} {prefix} {spec}"
        return Answers(**self._ask(command, number * interval / 1000))

    def mark(self) -> Mark:
        """What came to the open streams since the last time."""
        reply = self._ask("mark")
        delays = reply.pop("delay_ms")
        return Mark(delay_ms=Delays(**delays) if delays else None, **reply)

    def stop(self, number: int, interval: float, mode: str) -> list[Stopped]:
        """Stop so many of the open streams, chosen at random, one every ``interval`` milliseconds.

        :param mode: ``leave`` closes the stream's connection, ``cancel`` posts to the cancel path.
        """
        reply = self._ask(f"stop {number} {interval} {mode}", number * interval / 1000)
        return [Stopped(**each) for each in reply["stops"]]

    def close(self) -> int:
        """Close all open streams; return how many there were."""
        closed: int = self._ask("close")["closed"]
        return closed

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # a line is left that it did not read
            self._process.stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()

    def _ask(self, command: str, seconds: float = 0.0) -> dict[str, Any]:
        assert self._process.stdin
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LoadError(f"the load has ended: {self._rest()}") from None
        line = self._line(command, time.monotonic() + seconds + _SECONDS_TO_REPLY)
        try:
            reply: dict[str, Any] = json.loads(line)
        except ValueError:
            raise LoadError(f"the load said {line!r} to {command!r}") from None
        if "error" in reply:
            raise LoadError(f"the load refused {command!r}: {reply['error']}")
        return reply

    def _line(self, command: str, end: float) -> str:
        while b"\n" not in self._unread:
            if not (piece := self._piece(max(0.0, end - time.monotonic()))):
                raise LoadError(f"no reply to {command!r}: {self._unread!r}")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace")

    def _piece(self, seconds: float) -> bytes:
        """What the load says next; nothing if it says nothing in this time, or has ended."""
        assert self._process.stdout
        waiter = select.poll()  # unlike select.select() it takes any descriptor
        waiter.register(self._process.stdout, select.POLLIN)
        if not waiter.poll(seconds * 1000):
            return b""
        return os.read(self._process.stdout.fileno(), 1 << 16)

    def _rest(self) -> str:
        while piece := self._piece(_SECONDS_TO_END):
            self._unread += piece
        return self._unread.decode(errors="replace")
