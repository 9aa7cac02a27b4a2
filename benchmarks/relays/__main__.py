"""Install the relays: ``python -m benchmarks.relays``; say of each what is here, or why not."""

from __future__ import annotations

import sys

from . import ALL, Relay, Unavailable


def _installed(relay: Relay) -> str:
    try:
        relay.install()
    except Unavailable as error:
        return f"not here: {error}"
    return ", ".join(f"{name} {version}" for name, version in relay.versions().items())


def main() -> int:
    """Install all that can be had here; one that can't is no failure."""
    for relay in ALL:
        print(f"{relay.name:<10} {_installed(relay)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
