"""What a relay is: a program that stands between a client and DeepSeek, and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..processes import Cores, Group, allow_many_files, reserved_port

#: The streams that each relay is told to have room for.
MOST_STREAMS = 10_000

#: The key that the relays send to the upstream, which looks at none.
KEY = "sk-none"

_MODEL = "deepseek-flash"
#: chatproxy has three to a stream, and needs one more for its Stop.
_DESCRIPTORS = 4 * MOST_STREAMS + 1000


@dataclass(frozen=True)
class Launch:
    """How a relay is started: its command, and what is set in its environment."""

    command: list[str]
    settings: dict[str, object]


@dataclass(frozen=True)
class RunningRelay:
    """A relay that answers, and how it is asked.

    In the headers, the body and the path of a Stop, ``@TAG@`` stands for the id of a stream, and
    ``@SPEC@`` for what the upstream shall do.

    :param path: to which an answer is posted.
    :param cancel_path: to which a Stop is posted; None where a Stop is only to leave.
    """

    server: Group
    path: str
    cancel_path: str | None
    headers: dict[str, str]
    body: bytes

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.port)

    def cpu(self) -> float:
        """The CPU time of all its processes so far, in seconds."""
        return self.server.cpu()

    def memory(self) -> int:
        """The proportional set size of all its processes, in KB."""
        return self.server.memory()


class Relay:
    """A program that stands between a client and DeepSeek.

    What a subclass doesn't say otherwise is as it is with chatproxy.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    path: ClassVar[str] = "/api/chat/stream"
    cancel_path: ClassVar[str | None] = "/api/chat/cancel/@TAG@"

    def install(self) -> None:
        """Have all that it needs.

        :raises Unavailable: where it can't be had.
        """
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """What is installed of it, the most important first."""
        raise NotImplementedError

    def launch(self, port: int, upstream_url: str, folder: Path) -> Launch:
        """How to start it so that it listens on this port.

        :param folder: an empty one for its files.
        """
        raise NotImplementedError

    def headers(self) -> dict[str, str]:
        """Those of a request for an answer."""
        return {"Content-Type": "application/json", "X-Session-Id": "@TAG@"}

    @contextmanager
    def start(self, upstream_url: str, cores: Cores, folder: Path) -> Iterator[RunningRelay]:
        """Run it on the proxy's cores, in front of the upstream.

        :param folder: for its log and what it writes; others may use the same.
        """
        allow_many_files(_DESCRIPTORS)
        with reserved_port() as port:
            own = folder / f"{self.name}-{port}"
            own.mkdir(exist_ok=True)
            launch = self.launch(port, upstream_url, own)
            log_path = own / "log"
            with Group(launch.command, log_path, cores.proxy, port, **launch.settings) as server:
                yield RunningRelay(server, self.path, self.cancel_path, self.headers(), _BODY)


#: As the page asks. Every relay passes the user's words on, and the upstream finds its own there.
_BODY = json.dumps(
    {
        "model": _MODEL,
        "stream": True,
        "messages": [{"role": "user", "content": "Tell me more. @SPEC@ tag=@TAG@ "}],
    }
).encode()
