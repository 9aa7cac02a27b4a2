"""Blinker signals (not the system's): what happens, for whoever wants to know.

For applications, with the Flask application as the sender:

* ``stream_started``: ``session_id`` (None if the client gave none), ``owner``.
* ``stream_ended``: ``session_id``, ``owner``, ``outcome`` ("finished", "stopped" or "failed"),
  ``reason`` (why it was stopped, else None), ``phase``, ``events``, ``upstream`` (the name of the
  one that was asked last; None if none was), ``usage`` (a dict with DeepSeek's names; None if it is
  not known), ``usage_source`` ("provider", "counted", "estimated" or "none"), ``account`` (both,
  with ``cost`` and what a Stop saved, as the receipt has them), ``text`` and ``reasoning_text``
  (what had been received, up to four million characters in all), ``payload`` (what was asked, as
  it was sent) and ``context`` (what ``prepare`` has put there). Sent inside an application context,
  after the upstream has been closed.

The others serve this package's own ``logs`` and ``metrics``. Those of a stream carry the
``session`` itself. Beside them:

* ``answer_begun``: ``session``, ``question``. Sent in the context (PEP 567) of whoever asks. A
  receiver may give the session a ``trace``. Its end is ``stream_closed``.
* ``call_begun``: ``call``, which is a session or an HTTP request of a run, its ``name``, the
  ``question`` (None for a request), and ``within``, the ``Trace`` of the run. As ``answer_begun``
  otherwise. ``call_ended``: ``call``.
* ``producer_begun``: ``session``. Sent in the context that its answer is made in, which is its own:
  what a receiver sets there, all see that is done for this answer.
* ``tool_begun``: ``within``, ``call_id``, ``name``, ``arguments``. ``tool_ended``: ``within``,
  ``call_id``, ``output``, ``error`` (a sentence, or None). A tool that a Stop has ended has no end.
* ``try_failed``: ``upstream``, its name, ``code`` and ``reason`` (a sentence, which may quote what
  it has sent), ``following``, the name of the one that is asked next, and ``pause``, the seconds
  until then. The sender is what makes the calls.
* ``stream_replaced``: ``receipt``, and ``by``, the id of the answer in whose favour another of its
  chat was stopped. The sender is the application.
* ``cancel_requested``: ``session_id``.
* ``cancel_answered``: ``result`` ("stopped", "not_found" or "unavailable"), ``by`` ("self", or
  "peer" if this worker did not know the id), ``seconds`` (from the arrival of the Stop to the
  close of the upstream; None if nothing was stopped).
* ``peer_asked``: ``operation`` ("take" or "ask"), ``result`` ("ok" or "unavailable").
* ``cancel_forgotten``: an early cancel made room for others before its time.
* ``answers_recorded``: ``result`` ("written" or "lost") and ``count``, of rows in the records.
* ``request_unfinished``: a request was not waited for any longer: ``part`` ("head" or "body", what
  was missing, or "answer", which was not taken), ``why`` ("timeout", or "room" if it made room for
  others). The sender is None if that was not in an application.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from blinker import NamedSignal, Namespace

logger = logging.getLogger("chatproxy")


class _Inner(NamedSignal):
    """A signal of this package's own: no receiver is a coroutine, and nobody reads their answers.

    To look whether each is one takes twice as long as to call it.
    """

    def send(
        self, sender: Any = None, /, *, _async_wrapper: object = None, **sent: Any
    ) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers. One that fails is logged, and stands in nobody's way."""
        for receiver in self.receivers_for(sender):
            try:
                receiver(sender, **sent)
            except Exception:
                with suppress(Exception):  # it may be the log that fails
                    logger.exception("A receiver of %s failed", self.name)
        return []


_namespace = Namespace()

stream_started = _namespace.signal("stream-started")
stream_ended = _namespace.signal("stream-ended")

stream_opened = _Inner("stream-opened")
answer_begun = _Inner("answer-begun")
call_begun = _Inner("call-begun")
call_ended = _Inner("call-ended")
producer_begun = _Inner("producer-begun")
tool_begun = _Inner("tool-begun")
tool_ended = _Inner("tool-ended")
try_failed = _Inner("try-failed")
cancel_requested = _Inner("cancel-requested")
stream_aborted = _Inner("stream-aborted")
client_disconnected = _Inner("client-disconnected")
stream_closed = _Inner("stream-closed")
stream_replaced = _Inner("stream-replaced")

cancel_answered = _Inner("cancel-answered")
peer_asked = _Inner("peer-asked")
cancel_forgotten = _Inner("cancel-forgotten")
request_unfinished = _Inner("request-unfinished")
answers_recorded = _Inner("answers-recorded")
