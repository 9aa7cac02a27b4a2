"""Answer: an answer that was begun in Python, to be read and stopped there.

One that nobody has any more can't be closed then and there: it may be garbage amid anything, with
any lock held. It is handed to ``drop``, which takes none.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress

from ..answers.readers import LogReader
from ..answers.receipt import Receipt
from ..answers.session import StreamSession
from ..errors import Refusal
from .parts import Parts


class Answer(Parts):
    """One answer. It stops if it is closed or dropped before its end, as if a client had left.

    To iterate over it raises ``Refusal`` if there is no answer or it breaks off. It ends without a
    word if the answer is stopped: see ``outcome`` and ``reason``.
    """

    def __init__(
        self,
        reader: LogReader,
        cancel: Callable[[StreamSession], Receipt | None],
        drop: Callable[[LogReader], None],
    ) -> None:
        super().__init__(reader, reader.session)
        self._cancel = cancel
        self._finalizer = weakref.finalize(self, drop, reader)
        self._finalizer.atexit = False

    def close(self) -> None:
        """Read no more."""
        self._finalizer.detach()
        super().close()

    @property
    def session_id(self) -> str | None:
        """Its id; None if it has none."""
        return self._session.id or None

    @property
    def phase(self) -> str:
        """``connecting``, ``waiting`` or ``streaming``: where it is, or was when it ended."""
        return self._session.phase.value

    @property
    def outcome(self) -> str | None:
        """``finished``, ``stopped`` or ``failed``; None while it lives."""
        return self._session.outcome and self._session.outcome.value

    @property
    def reason(self) -> str | None:
        """Why it was stopped, as the ``stopped`` event has it; None if it was not."""
        return self._session.reason and self._session.reason.value

    @property
    def events(self) -> int:
        """How many events of the upstream have come."""
        return self._session.events

    def cancel(self) -> Receipt | None:
        """Stop it, and wait for the close of its upstream; None if it has ended."""
        return self._cancel(self._session)

    def wait(self) -> str:
        """Read to the end, whatever that is; return the outcome."""
        with suppress(Refusal):
            self.read()
        self._session.closed.wait()
        return self.outcome or ""

    def _read(self) -> bytes | None:
        data = super()._read()
        if data is None:
            self.close()
        return data
