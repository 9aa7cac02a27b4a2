"""The protocol that a protocol keeps: the events of the log in, one client's bytes out. No I/O.

The log holds an answer in the native form (``native``): the upstream's events byte for byte, each
with its number, and one of our own at the end. A reader gives them whole, any number at once, with
comments between them. An *encoder* turns them into what one client gets. So every answer can be
read in every protocol, whichever it was asked for in.
"""

from __future__ import annotations

from typing import Protocol

from ..answers.cursor import Withheld
from ..errors import Refusal


class Encoder(Protocol):
    """Encodes one answer for one client. One thread at a time uses it.

    :ivar heartbeat: what the client gets in silence; ``b""`` for nothing.
    """

    heartbeat: bytes

    @property
    def refusal(self) -> Refusal | None:
        """Why there is no answer although it had begun; None if there is one, or may still be.

        It counts if the client has got nothing yet: then the response has its status.
        """

    @property
    def withheld(self) -> Withheld | None:
        """What the client is told only at the end of the answer; None if it is told as it comes."""

    def encode(self, data: bytes) -> bytes:
        """What the client gets for this, now; ``b""`` for nothing yet. Never raises.

        :param data: whole events and comments of the log, not empty. The events of an answer come
            once each, in order.
        """

    def fail(self, refusal: Refusal) -> bytes:
        """What the client gets if the rest can't be read; nothing follows it."""
