"""Blinker signals (not the system's): what happens, for whoever wants to know.

For applications, with the Flask application as the sender:

* ``stream_started``: ``session_id``, ``owner``.
* ``stream_ended``: ``session_id``, ``owner``, ``outcome`` ("finished", "stopped" or "failed"),
  ``reason`` (why it was stopped, else None), ``phase``, ``events``, ``usage`` (DeepSeek's, a dict;
  None if the answer did not come to its end), ``text`` and ``reasoning_text`` (what had been
  received). Sent inside an application context, after the upstream has been closed.

The others serve this package's own ``logs`` and ``metrics``. Those of a stream carry the
``session`` itself. Beside them:

* ``try_failed``: ``reason``, and ``pause``, the seconds until the next try. The sender is the
  upstream.
* ``cancel_requested``: ``session_id``.
* ``cancel_answered``: ``result`` ("stopped", "not_found" or "unavailable"), ``by`` ("self", or
  "peer" if another worker was asked), ``seconds`` (from the arrival of the Stop to the close of
  the upstream; None if nothing was stopped).
* ``peer_asked``: ``operation`` ("take" or "ask"), ``result`` ("ok" or "unavailable").
* ``cancel_forgotten``: an early cancel made room for others before its time.
* ``request_unfinished``: a request was not waited for any longer: ``part`` ("head" or "body", what
  was missing, or "answer", which was not taken), ``why`` ("timeout", or "room" if it made room for
  others). The sender is None if that was not in an application.
"""

from blinker import Namespace

_namespace = Namespace()

stream_started = _namespace.signal("stream-started")
stream_ended = _namespace.signal("stream-ended")

stream_opened = _namespace.signal("stream-opened")
try_failed = _namespace.signal("try-failed")
cancel_requested = _namespace.signal("cancel-requested")
stream_aborted = _namespace.signal("stream-aborted")
client_disconnected = _namespace.signal("client-disconnected")
stream_closed = _namespace.signal("stream-closed")

cancel_answered = _namespace.signal("cancel-answered")
peer_asked = _namespace.signal("peer-asked")
cancel_forgotten = _namespace.signal("cancel-forgotten")
request_unfinished = _namespace.signal("request-unfinished")
