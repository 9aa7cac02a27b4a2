"""What chatproxy's costs are held against: the relay in Flask and requests that most people write.

It has no sessions, no Stop, no heartbeat and no log, and does not notice a client that has left
until it writes. It runs under the same server, in front of the same upstream.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import requests
from flask import Flask, Response, request

URL = f"{os.environ['DEEPSEEK_BASE_URL']}/chat/completions"

app = Flask(__name__)


@app.post("/api/chat/stream")
def stream() -> Response:
    payload = {**request.get_json(), "stream": True}
    upstream = requests.post(URL, json=payload, stream=True, timeout=(10, 300))

    def relay() -> Iterator[bytes]:
        for line in upstream.iter_lines():
            if line:
                yield line + b"\n\n"

    return Response(relay(), status=upstream.status_code, mimetype="text/event-stream")
