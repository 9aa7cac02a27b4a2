"""A peer that can vanish without a word: in a network of its own, to which the path can be cut.

For root on Linux, with ``ip`` (Debian's package iproute2). A socket belongs to the network in which
it was made, whoever uses it later; so only the thread that makes it has to be there.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator

_NETWORKS = "/run/netns"
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


def can_be_made() -> bool:
    """Whether this process may make networks."""
    if os.geteuid() or shutil.which("ip") is None:
        return False
    name = f"try-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True)
    if done.returncode == 0:
        _ip("netns", "del", name)
    return done.returncode == 0


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class Elsewhere:
    """A network with one host.

    :param number: makes its addresses differ from those of others.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        # From 198.18.0.0/15, which is for tests of networks (RFC 2544); each has four addresses.
        base = int(ipaddress.IPv4Address("198.18.0.0")) + 4 * (number % 2**15)
        self._ours, self.host = (str(ipaddress.IPv4Address(base + each)) for each in (1, 2))

    def make(self) -> None:
        link, peer = f"{self.name}a", f"{self.name}b"
        _ip("netns", "add", self.name)
        _ip("link", "add", link, "type", "veth", "peer", "name", peer, "netns", self.name)
        _ip("addr", "add", f"{self._ours}/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", self.name, "addr", "add", f"{self.host}/30", "dev", peer)
        _ip("-n", self.name, "link", "set", peer, "up")

    def cut(self) -> None:
        """From now on, nothing that the host there sends comes back, not even a refusal."""
        _ip("-n", self.name, "route", "add", "blackhole", f"{self._ours}/32")

    def listener(self) -> socket.socket:
        """A socket that listens there."""
        found: list[socket.socket] = []

        def listen() -> None:
            with open(f"{_NETWORKS}/{self.name}") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            found.append(socket.create_server((self.host, 0)))

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        return found[0]


@contextlib.contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """A network of its own, for as long as the block lasts."""
    network = Elsewhere(f"cp{os.getpid()}x{next(_numbers)}", os.getpid())
    try:
        network.make()
        yield network
    finally:
        subprocess.run(["ip", "netns", "del", network.name], check=False)
