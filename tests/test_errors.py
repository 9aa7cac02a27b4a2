"""Every error gives the status, the word and the headers that the contract names for it."""

from __future__ import annotations

import pytest

from chatproxy import errors

REFUSALS = [
    (errors.Refusal, 400, "invalid_request"),
    (errors.InvalidRequest, 400, "invalid_request"),
    (errors.Unauthorized, 401, "unauthorized"),
    (errors.BodyTimeout, 408, "body_timeout"),
    (errors.SessionActive, 409, "session_active"),
    (errors.SessionCancelled, 409, "session_cancelled"),
    (errors.SessionNotFound, 404, "not_found"),
    (errors.EventsGone, 410, "events_gone"),
    (errors.ConversationNotFound, 404, "not_found"),
    (errors.ConversationChanged, 412, "conversation_changed"),
    (errors.BodyTooLarge, 413, "body_too_large"),
    (errors.HostNotAllowed, 421, "host_not_allowed"),
    (errors.TooManySessions, 429, "too_many_sessions"),
    (errors.BudgetSpent, 429, "budget_spent"),
    (errors.ShuttingDown, 503, "shutting_down"),
    (errors.PeersUnavailable, 503, "peers_unavailable"),
    (errors.DatabaseUnavailable, 503, "database_unavailable"),
    (errors.ConversationsFull, 507, "conversations_full"),
    (errors.UpstreamError, 502, "upstream_failed"),
]


@pytest.mark.parametrize(("kind", "status", "code"), REFUSALS)
def test_a_refusal_has_the_status_and_the_code_of_its_class(
    kind: type[errors.Refusal], status: int, code: str
) -> None:
    refusal = kind("No.")
    assert (refusal.status, refusal.code) == (status, code)


def test_every_refusal_is_in_the_table() -> None:
    listed = {kind for kind, _, _ in REFUSALS}
    assert listed == {errors.Refusal, *errors.Refusal.__subclasses__()}


def test_the_message_is_the_text_of_the_error() -> None:
    refusal = errors.Refusal("One clear sentence.")
    assert refusal.message == str(refusal) == "One clear sentence."


def test_status_and_code_can_be_chosen_for_one_refusal_alone() -> None:
    refusal = errors.UpstreamError("Busy.", status=503, code="upstream_busy")
    assert (refusal.status, refusal.code) == (503, "upstream_busy")
    assert (errors.UpstreamError.status, errors.UpstreamError.code) == (502, "upstream_failed")


PASSING = [
    errors.BodyTimeout,
    errors.TooManySessions,
    errors.ShuttingDown,
    errors.PeersUnavailable,
    errors.DatabaseUnavailable,
]


@pytest.mark.parametrize("kind", [kind for kind, _, _ in REFUSALS if kind not in PASSING])
def test_what_another_try_cannot_help_tells_the_client_libraries_not_to_retry(
    kind: type[errors.Refusal],
) -> None:
    assert kind("No.").headers() == {"X-Should-Retry": "false"}


@pytest.mark.parametrize("kind", PASSING)
def test_what_may_pass_by_itself_may_be_tried_again(kind: type[errors.Refusal]) -> None:
    assert kind("No.").headers() == {}


@pytest.mark.parametrize(
    ("status", "passes"),
    [(400, False), (403, False), (408, True), (409, False), (425, True), (429, True), (503, True)],
)
def test_a_refusal_of_an_applications_own_goes_by_its_status(status: int, passes: bool) -> None:
    assert (errors.Refusal("No.", status=status).headers() == {}) is passes


@pytest.mark.parametrize("status", [400, 429, 502, 503, 504])
def test_a_failure_of_deepseek_is_never_tried_again_by_a_client(status: int) -> None:
    """Our own tries are used up, and each further one may be billed."""
    refusal = errors.UpstreamError("No.", status=status)
    assert refusal.headers() == {"X-Should-Retry": "false"}


def test_one_refusal_alone_may_say_otherwise() -> None:
    assert errors.UpstreamError("Full.", status=429, should_retry=True).headers() == {}


@pytest.mark.parametrize("seconds", [0, 7])
def test_retry_after_becomes_a_header(seconds: int) -> None:
    refusal = errors.TooManySessions("Too many.", retry_after=seconds)
    assert refusal.headers() == {"Retry-After": str(seconds)}


def test_a_409_with_retry_after_carries_both_headers() -> None:
    refusal = errors.SessionActive("Taken.", retry_after=1)
    assert refusal.headers() == {"Retry-After": "1", "X-Should-Retry": "false"}


def test_a_401_carries_the_challenge_that_it_is_given() -> None:
    refusal = errors.Unauthorized("Who are you?", challenge="Bearer")
    assert refusal.headers() == {"WWW-Authenticate": "Bearer", "X-Should-Retry": "false"}


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.Aborted, errors.Refusal])
def test_all_errors_have_one_base(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.ChatProxyError)


def test_an_abort_is_not_a_refusal() -> None:
    """A Stop never becomes an error answer by being caught with the failures."""
    assert not issubclass(errors.Aborted, errors.Refusal)
