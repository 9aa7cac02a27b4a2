"""The producer: makes one answer from one call, and leaves its end to the service.

An answer is produced once and followed by any number of readers. ``produce`` is a coroutine of its
own: the call puts the events of the upstream into the session, whose log the readers follow. The
producer knows no reader, no registry and no service on the network. It waits for three things, and
a Stop ends each of them through the session's abort hooks:

* the start of the answer (``Call.open``),
* more of the answer (``Call.receive``),
* room in the log, if the readers lag (``AnswerLog.wait_for_room``).

Nothing else ends an answer. What has to happen at the end is not the producer's business either:
it tells its one observer, ``end``, exactly once.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from typing import Protocol

from .. import signals
from ..errors import Aborted, Refusal, UpstreamError
from .coroutines import Coroutine
from .session import Outcome, StreamSession

logger = logging.getLogger("chatproxy")


class Call(Protocol):
    """One question put to an upstream on behalf of one session.

    The producer opens, receives and closes it. Any other thread may only abort it.
    """

    def open(self) -> None:
        """Ask, and block until the answer begins.

        :raises Aborted: if the session's flag is set.
        :raises UpstreamError: if there is no answer.
        """

    def receive(self) -> Coroutine[bool]:
        """Put what comes into the session (``StreamSession.take``) until its log is full.

        :returns: whether the answer has come to its end. If not, the producer waits for room and
            receives again.
        :raises Aborted: if the session's flag is set.
        :raises UpstreamError: if the answer breaks off or reports an error.
        """

    def abort(self) -> None:
        """End whatever the call waits for, now and later. Never blocks or raises.

        If the flag is not set, the session has been concluded: what has come by then is all of it.
        """

    def close(self) -> None:
        """Let go of everything that the call has. It is called once, at the end."""


#: Told how an answer went: the outcome, and what to say if it failed.
End = Callable[[Outcome, "Refusal | None"], None]


def produce(session: StreamSession, call: Call, end: End) -> Coroutine[None]:
    """Make the whole answer; call ``end`` when it is made, stopped or failed."""
    outcome = Outcome.FAILED
    refusal: Refusal | None = None
    try:
        signals.producer_begun.send(session=session)
        session.on_cancel(call.abort)
        call.open()
        ended = False
        while not ended:
            ended = yield from call.receive()
            quiet_since, session.quiet_since = session.quiet_since, None
            if not ended:
                waits_since = time.monotonic()
                session.log.wait_for_room()
                if quiet_since is not None:
                    session.quiet_since = quiet_since + time.monotonic() - waits_since
        outcome = Outcome.FINISHED
    except Aborted:
        outcome = Outcome.STOPPED
    except Refusal as error:
        refusal = copy.copy(error)  # without its frames, which hold everything there is of the call
    except Exception:
        logger.exception("An answer failed because of an error in the server")
        refusal = Refusal(
            "The answer failed because of an error in the server.",
            status=500,
            code=UpstreamError.code,
            should_retry=False,
        )
    finally:
        end(outcome, refusal)
