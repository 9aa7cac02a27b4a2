"""Nothing is left behind, however many answers end in however many ways at once."""

import asyncio
from collections import defaultdict

from chatproxy.server.event_loop import MOST_IDLE_GREENLETS

from .support import storm
from .support.servers import DeepSeek, Proxy, new_id
from .support.waiting import wait_for


def test_a_storm_of_sessions_leaves_nothing_behind(kind, logs):
    # A DeepSeek of its own: connections of others would be in its count too.
    settings = {"CHATPROXY_CONNECT_TIMEOUT": 20}
    with (
        DeepSeek(logs("deepseek")) as deepseek,
        Proxy(kind, deepseek.url, logs(kind), **settings) as proxy,
    ):
        _storm(kind, proxy, deepseek)


def _storm(kind, proxy, deepseek):
    proxy.start(new_id(), simulate={"rate": 0, "tokens": 1}).read_answer()
    before, connected = _resources(proxy, deepseek)

    sessions = storm.plan(1, 80, f"storm-{kind}")
    asyncio.run(storm.run(proxy.port, sessions))

    proxy.wait_until_empty()
    entries = defaultdict(list)

    def all_closed():
        entries.clear()
        for entry in deepseek.ledger()["requests"]:
            entries[entry["tag"]].append(entry)
        return not any(entry["open"] for found in entries.values() for entry in found)

    wait_for(all_closed, message="the close of every connection to DeepSeek")
    for session in sessions:
        storm.check(session, entries[session.id])
    _check_lines(proxy, sessions)

    def nothing_left():
        after, still_connected = _resources(proxy, deepseek)
        # Connections that wait in the pool are no leak; each is one descriptor.
        pooled = still_connected - connected
        return (
            after["descriptors"] - before["descriptors"] <= pooled
            and after["threads"] <= before["threads"]
            and after["greenlets"] <= before["greenlets"] + MOST_IDLE_GREENLETS
        )

    try:
        wait_for(nothing_left)
    except AssertionError:
        raise AssertionError((before, connected, _resources(proxy, deepseek))) from None
    assert "Traceback" not in proxy.log()


def _resources(proxy, deepseek):
    # The state is asked on a connection of its own, which is part of both counts.
    return proxy.resources(), deepseek.ledger()["connections"]["open"]


def _check_lines(proxy, sessions):
    lines = defaultdict(list)
    for line in proxy.lines(" ended outcome="):
        lines[line.split()[1]].append(line)
    for session in sessions:
        started = session.status != 409 and (session.way != "drop" or lines[session.id])
        assert len(lines[session.id]) == (1 if started else 0), session
