"""Trace: what whoever traces keeps with a session or a request, as those see it who don't trace.

It is there only if somebody listens who puts it there (``signals.call_begun``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Trace(Protocol):
    """The trace of one call.

    :ivar id: the id of the whole trace, 32 hexadecimal digits.
    :ivar headers: what a request to an upstream carries of it; nothing unless that was asked for.
    """

    id: str
    headers: Mapping[str, str]

    def take(self, events: list[bytes]) -> None:
        """See events of the answer as they come. Never blocks."""
