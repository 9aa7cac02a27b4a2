"""Every error of the package: classes, HTTP statuses, codes and headers.

    ChatProxyError
    ├── ConfigError            a setting is wrong or missing; the server does not start
    ├── Aborted                a call to DeepSeek was ended from this side, on purpose
    └── Refusal                an answer is not given: one sentence, a status, a code
        ├── InvalidRequest     400  what the client sent cannot be used
        ├── Unauthorized       401  the owner could not be established
        ├── SessionNotFound    404  nothing that can be read has this id
        ├── ConversationNotFound  404  the owner has no conversation of this id
        ├── BodyTimeout        408  the request's body did not come in time
        ├── SessionActive      409  the id belongs to a live or retained session
        ├── SessionCancelled   409  the Stop for this id came first
        ├── EventsGone         410  the events that are asked for are no longer held
        ├── ConversationChanged  412  the conversation has another revision
        │   └── ConversationDeleted  410  it was deleted
        ├── BodyTooLarge       413  the request's body is over the limit
        ├── HostNotAllowed     421  the server does not answer to the request's host
        ├── TooManySessions    429  the owner's or the worker's limit is reached
        ├── BudgetSpent        429  too little is left of the owner's budget
        ├── ShuttingDown       503  the server drains
        ├── PeersUnavailable   503  the other workers could not be asked
        ├── DatabaseUnavailable  503  the database did not answer
        ├── ConversationsFull  507  no more of the owner's conversations are kept
        └── UpstreamError      4xx, 5xx  DeepSeek refused, failed, or could not be reached

A ``Refusal`` knows its HTTP status, its ``code`` and its headers, so one place in ``web`` turns any
of them into a response.

``Stopped`` stands apart: it is no ``Exception``, as ``asyncio.CancelledError`` is none.
"""

from __future__ import annotations

from typing import Any

#: The statuses of failures that may pass by themselves (RFC 9110, 15.5.9 and 15.6; RFC 6585, 4;
#: RFC 8470, 5.2).
PASSING = frozenset({408, 425, 429, *range(500, 600)})


class ChatProxyError(Exception):
    """The base of all errors raised by this package."""


class ConfigError(ChatProxyError):
    """A setting is wrong or missing. Its text is one sentence that names the setting."""


class Aborted(ChatProxyError):
    """A call to DeepSeek ended because this side wanted it to end."""


class Stopped(BaseException):
    """A run has been stopped: raised in its code by whatever it waits for, and would wait for.

    Not an ``Exception``: code that goes on after an error must not go on after this.
    ``finally`` and ``with`` work as ever. Nothing that is begun after it begins.
    """


class Refusal(ChatProxyError):
    """An answer is not given.

    :param message: one clear sentence for the client.
    :param status: the HTTP status; the class's own if left out.
    :param code: one word for programs; the class's own if left out.
    :param retry_after: seconds after which another try makes sense, for ``Retry-After``.
    :param should_retry: whether a client may send the request again by itself; the class's own if
        left out. If that is None too, it may if the status is one of ``PASSING``.
    """

    status: int = 400
    code: str = "invalid_request"
    #: The OpenAI client libraries read ``X-Should-Retry``, and would otherwise send again after a
    #: 408, 409, 429 or 5xx.
    should_retry: bool | None = None
    #: Why, for operators alone; one line. Empty if the message says it.
    reason: str = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = self.status if status is None else status
        self.code = self.code if code is None else code
        self.retry_after = retry_after
        self.should_retry = self.should_retry if should_retry is None else should_retry

    def as_json(self) -> dict[str, Any]:
        """The JSON of this refusal, except in OpenAI's protocol, which has its own."""
        return {"error": self.message, "code": self.code}

    def headers(self) -> dict[str, str]:
        """The HTTP headers that belong to this refusal."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        passes = self.status in PASSING if self.should_retry is None else self.should_retry
        if not passes:
            headers["X-Should-Retry"] = "false"
        return headers


class InvalidRequest(Refusal):
    """The client sent something that cannot be used."""


class Unauthorized(Refusal):
    """An owner is required, and none could be established.

    :param challenge: what would establish one, for ``WWW-Authenticate`` (RFC 9110, 11.6.1).
    """

    status, code = 401, "unauthorized"

    def __init__(self, message: str, *, challenge: str | None = None) -> None:
        super().__init__(message)
        self.challenge = challenge

    def headers(self) -> dict[str, str]:
        """The HTTP headers that belong to this refusal."""
        headers = super().headers()
        if self.challenge is not None:
            headers["WWW-Authenticate"] = self.challenge
        return headers


class SessionNotFound(Refusal):
    """Nothing that lives, or is retained, has this session id; or it is another owner's."""

    status, code = 404, "not_found"


class BodyTimeout(Refusal):
    """The body of the request did not come within ``CHATPROXY_BODY_TIMEOUT``."""

    status, code = 408, "body_timeout"


class SessionActive(Refusal):
    """The session id is taken by a live or retained session."""

    status, code = 409, "session_active"


class SessionCancelled(Refusal):
    """The Stop for this session id came before its start."""

    status, code = 409, "session_cancelled"


class EventsGone(Refusal):
    """The events after the point that was asked for are no longer held."""

    status, code = 410, "events_gone"


class ConversationNotFound(Refusal):
    """The owner has no conversation of this id."""

    status, code = 404, "not_found"


class ConversationChanged(Refusal):
    """The conversation has another revision than the client has seen.

    :param revision: the one that it has; 0 if there is no such conversation.
    """

    status, code = 412, "conversation_changed"

    def __init__(self, message: str, revision: int = 0) -> None:
        super().__init__(message)
        self.revision = revision

    def as_json(self) -> dict[str, Any]:
        """The JSON of this refusal."""
        return {**super().as_json(), "revision": self.revision}


class ConversationDeleted(ConversationChanged):
    """The conversation was deleted, at this revision."""

    status, code = 410, "conversation_deleted"


class BodyTooLarge(Refusal):
    """The body of the request is over its limit, such as ``CHATPROXY_MAX_BODY_BYTES``."""

    status, code = 413, "body_too_large"


class HostNotAllowed(Refusal):
    """The host of the request is none of ``CHATPROXY_HOSTS``."""

    status, code = 421, "host_not_allowed"


class TooManySessions(Refusal):
    """No more answers may run at once, for this owner or on this worker."""

    status, code = 429, "too_many_sessions"


class BudgetSpent(Refusal):
    """Too little is left of what this owner may spend. Another try helps when it is free again."""

    status, code, should_retry = 429, "budget_spent", False


class ShuttingDown(Refusal):
    """The server drains and begins no new answer."""

    status, code = 503, "shutting_down"


class PeersUnavailable(Refusal):
    """The other workers, or what they share, could not be asked in time."""

    status, code = 503, "peers_unavailable"


class DatabaseUnavailable(Refusal):
    """The database did not answer, or not as it should."""

    status, code = 503, "database_unavailable"


class ConversationsFull(Refusal):
    """The owner has as many conversations as are kept, or as many bytes of them."""

    status, code, should_retry = 507, "conversations_full", False


class UpstreamError(Refusal):
    """An upstream refused, failed, went silent, or could not be reached.

    Whatever could be tried again has been: one question is at most ``CHATPROXY_TRIES`` requests,
    and each further one may be billed.
    """

    status, code, should_retry = 502, "upstream_failed", False
    #: Whether another try may succeed.
    transient = False
    #: Whether another upstream may answer: not if the question itself is at fault.
    elsewhere = True
    #: Whether the upstream has refused the request with a status, and so bills nothing for it.
    refused = False
    #: Seconds to wait before it, if DeepSeek has said so.
    pause: float | None = None
