"""Ends 5000 answers of 200 KB, as a worker does, and prints what becomes of the memory."""

import gc
import json

from chatproxy.answers.session import Outcome
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings

from .table import TablePeers

ALLOWED = 100_000_000


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
    for number in range(5000):
        session = registry.claim(f"session_{number}", "")
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
    first, last = registry.find(("", "session_0")), registry.find(("", "session_4999"))
    grown = resident() - before
    print(ALLOWED, grown, len(kept), int(first is not None), int(last is not None))


if __name__ == "__main__":
    main()
