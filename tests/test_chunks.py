"""What a stream of chat completion chunks says, read from its bytes alone."""

from __future__ import annotations

import pytest

from chatproxy import sse
from chatproxy.protocols import native
from chatproxy.upstreams.chunks import ChunkReader

from .support.spoken import STOPPED, delta

HI = delta(content="Hi")


@pytest.mark.parametrize(
    "block",
    [
        STOPPED,
        sse.event("account", {"usage": None}),
        native.emitted("tool-call", {"toolName": "rm"}),
        b"event: message\n" + HI,
        HI + b"\nevent:stopped",
        HI + b"\nevent",
    ],
)
def test_no_event_of_an_upstream_has_a_name_for_clients(block: bytes) -> None:
    """Else it could be taken for one of ours, such as the user's Stop."""
    wire = b"".join(each + b"\n\n" for each in (HI, block, HI))
    events = ChunkReader().read(wire)
    assert events == [HI, b"data: " + sse.data_of(block), HI]
    assert not any(map(native.ending_of, events))
    assert not any(map(native.emitted_in, events))
