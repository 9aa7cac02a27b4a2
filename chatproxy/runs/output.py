"""Output: what the client gets of a run: parts of answers, text, and events of the run's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import sse
from ..answers.session import StreamSession
from ..protocols import native
from ..protocols.openai import chunk_with
from .appender import Appender
from .parts import Part


class Output:
    """The output of one run. Any of its threads may use it; each call waits while the client lags.

    :param model: what its own chunks call the model.
    :param check: sees that the run is still wanted.
    :param is_over: whether it is not.
    """

    def __init__(
        self,
        session: StreamSession,
        model: str,
        check: Callable[[], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._session = session
        self._check = check
        self._is_over = is_over
        self._appender = Appender(session)
        created = int(time.time())
        self._chunk = partial(
            chunk_with, model=model, created=created, chunk_id=f"{model}-{created}"
        )
        #: Whether the answer that is shown has no end yet.
        self._unfinished = True

    def tell(self, name: str, data: Any) -> None:
        """Send an event of the run's own; see ``Run.emit`` for errors."""
        block = native.emitted(name, data)
        if len(block) > sse.MAX_EVENT_BYTES:
            raise ValueError(f"An event must not be larger than {sse.MAX_EVENT_BYTES} bytes.")
        self._append(partial(self._session.tell, [block]))

    def tell_end(self, call: dict[str, Any]) -> None:
        """Tell that a call has ended, unless the run is over. Never waits: its beginning has."""
        if not self._is_over():
            block = native.emitted("call-end", call)
            self._appender.leave(partial(self._session.tell, [block]))

    def show(self, item: Part | str) -> None:
        """See ``Run.show``."""
        if isinstance(item, str):
            if item:
                self._unfinished = True
                self._take(sse.unnamed(self._chunk({"content": item})))
        elif not isinstance(item, Part):
            raise TypeError(f"A run yields parts of answers, and text; not {type(item).__name__}.")
        elif item.name and not item.is_shown:
            item.is_shown = True
            self._append(partial(self._session.tell, [item.block]))
        elif not item.is_shown:
            self.show_all([item])

    def show_all(self, parts: list[Part]) -> None:
        """Show parts of an upstream's answer that the client does not have, all at once."""
        for part in parts:
            part.is_shown = True
            if part.finish_reason is not None:
                self._unfinished = False
            elif part.text or part.reasoning:
                self._unfinished = True
        self._take(*(part.block for part in parts if not part.is_count))

    def pulse(self) -> None:
        """Pass an upstream's keep-alive on."""
        self._append(self._session.log.pulse)

    def finish(self) -> None:
        """End the answer that was shown, if no upstream has."""
        if self._unfinished:
            self._take(sse.unnamed(self._chunk({}, "stop")))

    def close(self) -> None:
        """Send nothing more from now on, whoever tries."""
        self._appender.close()

    def _take(self, *events: bytes) -> None:
        self._append(partial(self._session.take, list(events)))

    def _append(self, step: Callable[[], None]) -> None:
        self._check()
        self._appender.append(step)
        self._check()
