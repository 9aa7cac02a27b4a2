"""Ask: a question of a run to an upstream, and the way to read its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers.readers import LogReader
from ..answers.session import Reason, StreamSession
from ..errors import UpstreamError
from .parts import Part, Parts

if TYPE_CHECKING:
    from .run import Run


class Ask(Parts):
    """The answer to one question of a run.

    To iterate over it raises ``UpstreamError`` if there is no answer or it breaks off, and
    ``Stopped`` if the run is stopped.
    """

    def __init__(self, run: Run, session: StreamSession, *, show: bool) -> None:
        super().__init__(LogReader(session.log), session)
        self._run = run
        self._show = show

    def close(self) -> None:
        """Have no more of it: the connection to the upstream is dropped, if it is still there."""
        self._session.cancel(Reason.DISCONNECT)
        super().close()

    def _arrive(self, parts: list[Part]) -> None:
        if self._show:
            self._run.output.show_all(parts)

    def _read(self) -> bytes | None:
        with self._run.waiting(self._reader.close):
            data = super()._read()
        if self._show and data and data.startswith(b":"):
            self._run.output.pulse()
        if data is None and self._session.reason is Reason.IDLE:
            raise self._session.timed_out()
        if data is None and self._session.reason is Reason.BUDGET and not self._session.cut_short:
            raise UpstreamError(f"{self._session.upstream} sends more than it was told to.")
        return data
