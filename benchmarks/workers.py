"""Four workers that are peers: two that meet in a run directory, two that meet in a Valkey."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.support.valkey import Valkey

from .processes import Cores, Upstream, Worker

_SCOPE = "chatproxy"  # the name of the standalone application


def four_workers(
    upstream: Upstream, folder: Path, cores: Cores, stack: ExitStack, **settings: object
) -> tuple[dict[str, Worker], Valkey]:
    """Start them, until the end of the stack: "local-1", "local-2", "valkey-1" and "valkey-2".

    :param settings: what else is set for each.
    """
    valkey = stack.enter_context(Valkey())
    valkey.settle(_SCOPE)
    of_each: dict[str, dict[str, object]] = {
        # Two masters that share a run directory are one server, with a port for each worker.
        "local-1": {"CHATPROXY_RUN_DIR": folder / "run"},
        "local-2": {"CHATPROXY_RUN_DIR": folder / "run"},
        "valkey-1": {"CHATPROXY_PEERS": valkey.url, "CHATPROXY_RUN_DIR": folder / "run-1"},
        "valkey-2": {"CHATPROXY_PEERS": valkey.url, "CHATPROXY_RUN_DIR": folder / "run-2"},
    }
    workers = {
        name: stack.enter_context(
            Worker(upstream, folder / f"{name}.log", cores, **each, **settings)
        )
        for name, each in of_each.items()
    }
    return workers, valkey
