"""Runs for the tests: each waits for something else, until it is stopped."""

import contextlib
import threading
import time
from concurrent.futures import Future

from flask import current_app

from chatproxy import Stopped


def ask(run, payload):
    """For one answer of DeepSeek's."""
    yield from run.ask(payload)


def closing_request(run, payload):
    """For that, on a connection that serves no other request."""
    run.http.headers["Connection"] = "close"
    request(run, payload)


def request(run, payload):
    """For the same answer, by a request of its own."""
    url = current_app.extensions["chatproxy"].settings.base_url
    asked = {**payload, "model": "deepseek-flash", "stream": True}
    with run.http.post(f"{url}/chat/completions", json=asked, stream=True) as response:
        for line in response.iter_lines():
            if line:
                run.emit("line", line.decode())


def both(run, payload):
    """For two answers and a request at once."""
    running = [run.spawn(run.ask(payload, show=False).read) for _ in range(2)]
    running.append(run.spawn(request, run, payload))
    for each in running:
        run.wait(each)


def sleep(run, _payload):
    """For a time."""
    run.sleep(3600)


def future(run, _payload):
    """For a future that brings nothing."""
    run.wait(Future())


def task(run, _payload):
    """For what it has spawned, by ending."""
    run.spawn(run.sleep, 3600)


def loop(run, _payload):
    """For nothing, but it looks whether it goes on."""
    while True:
        run.check()
        time.sleep(0.01)


def deaf(run, _payload):
    """For what no Stop ends."""
    run.emit("begun", {})
    time.sleep(3600)


def stubborn(run, _payload):
    """For nothing, and goes on."""
    run.emit("begun", {})
    while True:
        with contextlib.suppress(Stopped):
            run.check()
            time.sleep(0.01)


def greedy(run, _payload):
    """For nothing, and lets nobody else run; no Stop ends that."""
    run.emit("begun", {})
    while True:
        pass


def lock(run, _payload):
    """For a lock that a task of its own keeps."""
    kept = threading.Lock()

    def acquire():
        run.emit("begun", {})
        kept.acquire()

    kept.acquire()
    run.spawn(acquire).result()


def research(run, payload):
    """For a tool, after a call, beside another; for nothing unless its upstream never ends."""
    plan = {**payload, "model": "deepseek-flash", "simulate": {"rate": 0, "tokens": 3}}
    run.ask(plan, show=False, name="plan").read()
    run.emit("source", {"url": "https://example.com/a", "title": "A page about *Oslo*"})
    run.tell_tool_call("c1", "weather", {"city": "Oslo", "days": 3})
    answer = run.ask({**payload, "model": "deepseek-flash"}, name="answer")
    if payload.get("simulate", {}).get("never"):
        run.sleep(3600)
    run.tell_tool_result("c1", {"sky": "clear", "degrees": [3, 5, 4]})
    yield from answer


#: How each is listed by a receipt: how many calls, and what is left behind.
FUNCTIONS = {
    "ask": (ask, 1, []),
    "request": (request, 1, []),
    "closing_request": (closing_request, 1, []),
    "both": (both, 3, []),
    "sleep": (sleep, 0, []),
    "future": (future, 0, []),
    "task": (task, 0, []),
    "loop": (loop, 0, []),
    "deaf": (deaf, 0, ["deaf"]),
    "stubborn": (stubborn, 0, ["stubborn"]),
    "lock": (lock, 0, ["acquire", "lock"]),
    "research": (research, 2, []),
}


def register(functions):
    """Add them to the functions of an application."""
    functions.update({name: function for name, (function, _, _) in FUNCTIONS.items()})
    functions["greedy"] = greedy
