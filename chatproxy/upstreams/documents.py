"""Documents: what an upstream tells in answer to a GET, such as its models or a balance.

They are asked for with the key, through the same pool as the questions.
"""

from __future__ import annotations

import threading
import time

from ..answers.coroutines import A_TURN
from ..errors import UpstreamError
from .endpoint import Endpoint
from .transport.exchange import Exchange, current_exchange

#: How long all of the request may take.
SECONDS = 5.0
#: How large a document may be.
MOST_BYTES = 2 << 20


def document(endpoint: Endpoint, path: str) -> bytes:
    """The body of a document of the upstream.

    :raises UpstreamError: if it has another status than 200, or is too large.
    :raises Aborted: if it takes too long.
    """
    exchange = Exchange()
    timer = threading.Timer(SECONDS, exchange.abort)
    timer.daemon = True
    timer.start()
    token = current_exchange.set(exchange)
    exchange.begin()
    response = None
    try:
        response = endpoint.send(endpoint.prepare_get(path))
        if response.status_code != 200:
            raise UpstreamError(f"DeepSeek answered with status {response.status_code}.")
        return _body_of(exchange) if exchange.response is not None else response.content
    finally:
        current_exchange.reset(token)
        timer.cancel()
        exchange.close()  # before the pool has the connection, which may be another's at once
        if response is not None:
            response.raw.close()


def _body_of(exchange: Exchange) -> bytes:
    body, said = exchange.response, bytearray()
    assert body is not None
    while not body.complete:
        said += body.receive()
        exchange.check()
        if len(said) > MOST_BYTES:
            raise UpstreamError("DeepSeek's answer is too large.")
        time.sleep(A_TURN)
    return bytes(said)
