"""The relay in Flask and requests that most people write.

A stream of ``requests`` for each answer, passed on line by line, and a dictionary of flags that a
Stop sets, which are looked at whenever a line has come.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import requests
from flask import Flask, Response, jsonify, request
from requests.adapters import HTTPAdapter

URL = f"{os.environ['DEEPSEEK_BASE_URL']}/chat/completions"

client = requests.Session()
client.headers["Authorization"] = f"Bearer {os.environ['DEEPSEEK_API_KEY']}"
client.headers["Accept-Encoding"] = "identity"
client.mount("http://", HTTPAdapter(pool_maxsize=1000))

app = Flask(__name__)
running: dict[str, threading.Event] = {}


@app.post("/api/chat/stream")
def stream() -> Response:
    session_id = request.headers["X-Session-Id"]
    stopped = running[session_id] = threading.Event()
    payload = {**request.get_json(), "stream": True}
    answer = client.post(URL, json=payload, stream=True, timeout=(10, 300))

    def relay() -> Iterator[bytes]:
        try:
            for line in answer.iter_lines():
                if stopped.is_set():
                    break
                if line:
                    yield line + b"\n\n"
        finally:
            answer.close()
            running.pop(session_id, None)

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(relay(), answer.status_code, headers, mimetype="text/event-stream")


@app.post("/api/chat/cancel/<session_id>")
def cancel(session_id: str) -> Any:
    stopped = running.get(session_id)
    if stopped is None:
        return jsonify(success=False, message="Session not found"), 404
    stopped.set()
    return jsonify(success=True)
