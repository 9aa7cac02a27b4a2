"""What happens, told to whoever listens (blinker signals, as Flask's own).

For applications, with the Flask application as the sender:

* ``stream_started``: ``session_id``, ``owner``.
* ``stream_ended``: ``session_id``, ``owner``, ``outcome`` ("finished", "stopped" or "failed"),
  ``reason`` (why it was stopped, else None), ``phase``, ``events``, ``usage`` (DeepSeek's, a dict;
  None where the answer did not come to its end), ``text`` and ``reasoning_text`` (what had been
  received). Sent inside an application context, after the upstream has been closed.

The others carry the ``session`` itself (``cancel_requested``: the ``session_id``) and serve this
package's own ``logs``.
"""

from blinker import Namespace

_namespace = Namespace()

stream_started = _namespace.signal("stream-started")
stream_ended = _namespace.signal("stream-ended")

cancel_requested = _namespace.signal("cancel-requested")
stream_aborted = _namespace.signal("stream-aborted")
client_disconnected = _namespace.signal("client-disconnected")
stream_closed = _namespace.signal("stream-closed")
