"""Ends many answers of 200 KB, as a worker does, and prints what becomes of the memory."""

import gc
import json

from chatproxy.answers.session import Outcome, SessionKey
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings

from .table import TablePeers

ALLOWED = 40_000_000
#: Five times as many as there is room for.
NUMBER = 1000


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def main():
    settings = Settings(base_url="http://127.0.0.1:1", retain_bytes=ALLOWED)
    registry = Registry(settings, object(), TablePeers())
    chunk = {"id": "x" * 36, "choices": [{"delta": {"content": "word "}}]}
    blocks = [b"data: " + json.dumps(chunk).encode() * 2] * 50
    gc.collect()
    before = resident()
    for number in range(NUMBER):
        session = registry.claim(SessionKey("", f"session_{number}"))
        for _ in range(20):
            session.log.append(blocks)
        session.events = 1000
        session.end(Outcome.FINISHED)
        session.log.end()
        registry.discard(session)
        session.closed.set()
        registry.release(session)
        registry.drain.told(session)
        if number % 100 == 0:
            registry.sweep()
    kept = registry.all()
    first, last = (registry.find(SessionKey("", f"session_{number}")) for number in (0, NUMBER - 1))
    grown = resident() - before
    print(ALLOWED, NUMBER, grown, len(kept), int(first is not None), int(last is not None))


if __name__ == "__main__":
    main()
