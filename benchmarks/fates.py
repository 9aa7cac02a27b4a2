"""The fates of the storm's sessions: what the upstream is asked to do, and what the client does.

The same seed gives the same fates, in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: How many of a hundred sessions have each fate.
SHARES = {
    "complete": 32,
    "slow": 6,  # as complete, to a client that reads slowly
    "stop": 26,
    "stop_twice": 10,
    "stop_at_once": 6,  # with the start, which it may overtake
    "stop_early": 4,
    "drop": 10,
    "fail": 6,
}
#: The fates of which a Stop is a part.
STOPPED = frozenset(name for name in SHARES if name.startswith("stop"))

_ENDLESS = 100_000
#: Where a Stop or a client's leave meets the answer. None ends by itself before that.
_PHASES: tuple[dict[str, Any], ...] = (
    {"never": "headers"},
    {"never": "tokens"},
    {"never": "tokens", "keep_alive_every": 1},
    {"rate": 5, "tokens": _ENDLESS},
    {"rate": 10, "tokens": _ENDLESS},
    {"rate": 0, "tokens": _ENDLESS, "silence_after": 30},
    {"status": 503, "retry_after": 18},  # between two tries
)
#: The client of this one reads more slowly than it comes.
_UNREAD: dict[str, Any] = {"rate": 0, "tokens": _ENDLESS}
_RECOVERING: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"first_token_delay": 2},
    {"first_token_delay": 3, "keep_alive_every": 1},
    {"status": 503, "fail_times": 1},
)
_FAILING: tuple[dict[str, Any], ...] = (
    {"status": 402},
    {"status": 500},
    {"disconnect_times": 1},
    {"rate": 20, "tokens": 200, "end": "eof", "end_after": 60},
    {"rate": 20, "tokens": 200, "end": "cut", "end_after": 60},
    {"rate": 20, "tokens": 200, "end": "reset", "end_after": 60},
    {"garbage": 10_000},
)


@dataclass(frozen=True)
class Fate:
    """What is to become of one session.

    :param simulate: what the upstream is asked to do.
    :param pause: seconds from the start to the Stop, or to the client's leave.
    :param presses: how often Stop is pressed, all at once.
    :param slow: whether the client reads slowly, up to a Stop.
    """

    id: str
    name: str
    simulate: dict[str, Any]
    pause: float = 0.0
    presses: int = 0
    slow: bool = False


def fates(seed: int, prefix: str, longest: float) -> Iterator[Fate]:
    """Fates without end.

    :param longest: seconds that a session may last, or so.
    """
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        (name,) = dice.choices(list(SHARES), list(SHARES.values()))
        yield _fate(dice, f"{prefix}-{number}-{name}", name, longest)


def _fate(dice: random.Random, session_id: str, name: str, longest: float) -> Fate:
    if name == "complete":
        return Fate(session_id, name, {**_whole(dice, longest), "tag": session_id})
    if name == "slow":
        tokens = dice.randint(200, max(300, int(30 * longest)))
        return Fate(session_id, name, {"rate": 0, "tokens": tokens, "tag": session_id}, slow=True)
    if name == "fail":
        return Fate(session_id, name, {**dice.choice(_FAILING), "tag": session_id})
    if name == "stop_early":
        simulate = {"rate": 0, "tokens": 5, "tag": session_id}
        return Fate(session_id, name, simulate, dice.uniform(0, 2), presses=1)
    slow = dice.random() < 0.1
    simulate = {**(_UNREAD if slow else dice.choice(_PHASES)), "tag": session_id}
    pause = dice.uniform(0, 0.3) if dice.random() < 0.2 else dice.uniform(0.3, longest)
    if "status" in simulate:
        pause = min(pause, 25.0)  # soon afterwards, the last try has failed
    if name == "stop_at_once":
        pause = 0.0
    presses = {"drop": 0, "stop_twice": 2}.get(name, 1)
    return Fate(session_id, name, simulate, pause, presses, slow)


def _whole(dice: random.Random, longest: float) -> dict[str, Any]:
    if dice.random() < 0.2:
        return {"rate": 0, "tokens": dice.randint(1, 400)}
    rate = dice.choice([2, 4, 8])
    tokens = int(dice.uniform(0.05, 1) * longest * rate) + 1
    return {"rate": rate, "tokens": tokens, **dice.choice(_RECOVERING)}
