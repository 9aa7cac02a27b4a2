"""A peer that can vanish without a word: in a network of its own, to which the path can be cut.

The test has a network of its own too, for a browser that runs beside it breaks off all it loads if
the machine's network changes. For root on Linux, with ``ip`` (Debian's package iproute2).

A socket belongs to the network in which it was made, whoever uses it later; a thread is in that of
the thread that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import IO

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
    """A network with one host, and a path to it from that of the test."""

    # From 198.18.0.0/15, which is for tests of networks (RFC 2544).
    _ours, host = "198.18.0.1", "198.18.0.2"

    def __init__(self, name: str) -> None:
        self.here, self.there = f"{name}a", f"{name}b"

    def make(self) -> None:
        for each in (self.here, self.there):
            _ip("netns", "add", each)
        link = ("link", "add", "path", "type", "veth", "peer", "name", "path")
        _ip("-n", self.here, *link, "netns", self.there)
        for each, address in ((self.here, self._ours), (self.there, self.host)):
            _ip("-n", each, "addr", "add", f"{address}/30", "dev", "path")
            _ip("-n", each, "link", "set", "path", "up")

    def remove(self) -> None:
        for each in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", each], check=False)

    def cut(self) -> None:
        """From now on, nothing that the host there sends comes back, not even a refusal."""
        _ip("-n", self.there, "route", "add", "blackhole", f"{self._ours}/32")

    def listener(self) -> socket.socket:
        """A socket that listens there."""
        with _inside(f"{_NETWORKS}/{self.there}"):
            return socket.create_server((self.host, 0))


@contextlib.contextmanager
def _inside(network: str) -> Iterator[None]:
    """Have this thread in a network, and those that it starts."""
    with open("/proc/thread-self/ns/net") as usual, open(network) as other:
        _enter(other)
        try:
            yield
        finally:
            _enter(usual)


def _enter(network: IO[str]) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """Another network, and one for this thread, for as long as the block lasts."""
    network = Elsewhere(f"cp{os.getpid()}x{next(_numbers)}")
    try:
        network.make()
        with _inside(f"{_NETWORKS}/{network.here}"):
            yield network
    finally:
        network.remove()
