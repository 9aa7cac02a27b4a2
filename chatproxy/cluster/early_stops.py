"""Early Stops: the ids whose Stop came before their start, remembered for half a minute.

No client can push out those of others. Each early Stop belongs to its owner or, if owners are not
known, to the address that it came from. If there are too many, whoever has most makes room, the
oldest first. One client has many IPv6 addresses: at least a network of 64 bits, often a site of 48
(RFC 6177). So the site that has most makes room, and in it the network that has most.

Not safe to use from several threads at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from ..answers.session import SessionKey
from ..answers.shares import Shares

#: Seconds for which a Stop for an id that has not started yet is remembered.
EARLY_STOP_SECONDS = 30.0
#: The most early Stops that a worker remembers, and the most of one owner.
MOST = 10_000
MOST_OF_OWNER = 100


class EarlyStops:
    """The early Stops of one worker.

    :param timer: tells the time, in seconds.
    :param give_up: called with each that is remembered no longer.
    """

    def __init__(self, timer: Callable[[], float], give_up: Callable[[SessionKey], None]) -> None:
        self._timer = timer
        self._give_up = give_up
        self._until: dict[SessionKey, float] = {}  # the oldest first
        #: The client of each: its site, and its network.
        self._networks: dict[SessionKey, tuple[str, str]] = {}
        self._sites = Shares[SessionKey, str]()
        self._in_site: dict[str, Shares[SessionKey, str]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, key: SessionKey) -> bool:
        return self._timer() < self._until.get(key, 0.0)

    def add(self, key: SessionKey, client: str = "") -> bool:
        """Remember one, or remember it for longer: then it still belongs to whoever came first.

        :param client: the address that it came from.
        :returns: whether another one had to make room.
        """
        self.expire()
        site, network = self._networks.get(key) or _networks(key.owner, client)
        if key in self._until:
            self._remove(key)
        self._until[key] = self._timer() + EARLY_STOP_SECONDS
        self._networks[key] = site, network
        self._sites.put(key, site)
        self._in_site.setdefault(site, Shares()).put(key, network)
        if key.owner and self._sites.size_of(site) > MOST_OF_OWNER:
            self._make_room(site)
        elif len(self._until) > MOST:
            self._make_room(self._sites.largest())
        else:
            return False
        return True

    def expire(self) -> None:
        """Give up those that are too old."""
        now = self._timer()
        while self._until:
            key, until = next(iter(self._until.items()))
            if now < until:
                break
            self._remove(key)
            self._give_up(key)

    def forget(self, key: SessionKey) -> None:
        """Remember one no longer, if there is one for this id."""
        if key in self._until:
            self._remove(key)

    def _make_room(self, site: str) -> None:
        networks = self._in_site[site]
        key = next(networks.of(networks.largest()))
        self._remove(key)
        self._give_up(key)

    def _remove(self, key: SessionKey) -> None:
        site, _ = self._networks.pop(key)
        del self._until[key]
        self._sites.remove(key)
        self._in_site[site].remove(key)
        if not self._in_site[site]:
            del self._in_site[site]


def _networks(owner: str, client: str) -> tuple[str, str]:
    """The site and the network that a Stop counts for. An owner is both, whatever the address."""
    if owner:
        return f"owner {owner}", ""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return f"client {client}", ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"client {address.packed[:6].hex()}", address.packed[:8].hex()
        address = address.ipv4_mapped
    return f"client {address}", ""
