"""A storm: many sessions at once, each of which ends in a way of its own.

Seeded and bounded: the same seed gives the same sessions, and none lasts longer than a few
seconds.
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from .servers import chat

WAYS = ("complete", "stop", "stop_twice", "stop_early", "drop", "fail")

_ENDLESS = (
    {"never": "headers"},
    {"never": "tokens"},
    {"never": "tokens", "keep_alive_every": 0.1},
    {"rate": 20, "tokens": 100_000},
    {"rate": 0, "tokens": 100_000, "silence_after": 30},
)
_FAILING = (
    {"status": 402},
    {"status": 500},
    {"rate": 0, "tokens": 50, "end": "eof", "end_after": 20},
    {"rate": 0, "tokens": 50, "end": "cut", "end_after": 20},
    {"rate": 0, "tokens": 50, "end": "reset", "end_after": 20},
    {"garbage": 10_000},
)


@dataclass
class Planned:
    """One session of the storm, and what came of it."""

    id: str
    way: str
    simulate: dict
    begin: float
    pause: float
    status: int = 0
    body: bytes = b""
    stops: list = field(default_factory=list)


def plan(seed, number, prefix):
    """The sessions of a storm."""
    dice = random.Random(seed)
    sessions = []
    for index in range(number):
        way = dice.choice(WAYS)
        session_id = f"{prefix}-{index}-{way}"
        if way == "complete":
            simulate = {"rate": dice.choice([0, 200]), "tokens": dice.randint(1, 100)}
            simulate["first_token_delay"] = dice.uniform(0, 0.5)
        else:
            simulate = dice.choice(_FAILING if way == "fail" else _ENDLESS)
        simulate = {**simulate, "tag": session_id}
        begin, pause = dice.uniform(0, 2), dice.uniform(0, 1)
        sessions.append(Planned(session_id, way, simulate, begin, pause))
    return sessions


async def run(port, sessions, seconds=60):
    """Have all of them happen at once."""
    await asyncio.wait_for(asyncio.gather(*(_live(port, each) for each in sessions)), seconds)


async def _live(port, session):
    await asyncio.sleep(session.begin)
    if session.way == "stop_early":
        session.stops.append(await _stop(port, session.id))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps(chat(simulate=session.simulate)).encode()
        writer.write(_head("/api/chat/stream", session.id, len(body)) + body)
        if session.way == "drop":
            await asyncio.sleep(session.pause)
            return
        answer = asyncio.ensure_future(reader.read())
        if session.way.startswith("stop_") or session.way == "stop":
            await asyncio.sleep(session.pause)
        if session.way in ("stop", "stop_twice"):
            times = 2 if session.way == "stop_twice" else 1
            stops = await asyncio.gather(*(_stop(port, session.id) for _ in range(times)))
            session.stops.extend(stops)
        head, _, session.body = (await answer).partition(b"\r\n\r\n")
        session.status = int(head.split()[1])
    finally:
        writer.close()


async def _stop(port, session_id):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_head(f"/api/chat/cancel/{session_id}", session_id, 0))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


def _head(path, session_id, length):
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"X-Session-Id: {session_id}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def check(session, entries):
    """Hold what came of a session against what the simulated DeepSeek saw of it."""
    assert not any(entry["open"] for entry in entries), session
    if session.way == "complete":
        assert session.status == 200, session
        assert session.body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), session
        assert session.body.count(b"\ndata: {") >= session.simulate["tokens"], session
        assert entries[-1]["finished"], entries
    elif session.way in ("stop", "stop_twice"):
        _check_stopped(session, entries)
    elif session.way == "stop_early":
        assert [status for status, _ in session.stops] == [404], session
        assert session.status == 409, session
        assert b"session_cancelled" in session.body, session
        assert entries == [], entries
    elif session.way == "fail":
        assert b"[DONE]" not in session.body, session
        assert session.status in (502, 503) or b"event: error" in session.body, session
    elif session.way == "drop":
        assert not any(entry["finished"] for entry in entries), entries


def _check_stopped(session, entries):
    """Each Stop of an endless answer is told the truth: one receipt, and no more."""
    outcomes = Counter(status for status, _ in session.stops)
    if session.status == 409:  # both Stops overtook the start
        assert outcomes == {404: len(session.stops)}, session
        assert entries == []
        return
    assert outcomes == Counter(
        {200: 1, 404: len(session.stops) - 1} if len(session.stops) > 1 else {200: 1}
    ), session
    receipt = next(body for status, body in session.stops if status == 200)
    assert receipt["upstreamClosed"] is True, receipt
    assert b"event: stopped" in session.body, session
    for entry in entries:
        assert entry["peer_gone_at"] is not None, entry
        assert not entry["finished"], entry
