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


def test_every_error_is_ours_and_every_refusal_is_in_the_table() -> None:
    """An abort is no refusal: a Stop never becomes an error answer with the failures."""
    listed = {kind for kind, _, _ in REFUSALS}
    assert listed == {errors.Refusal, *errors.Refusal.__subclasses__()}
    for kind in (errors.ConfigError, errors.Aborted, errors.Refusal):
        assert issubclass(kind, errors.ChatProxyError)
    assert not issubclass(errors.Aborted, errors.Refusal)


def test_text_status_and_code_can_be_chosen_for_one_refusal_alone() -> None:
    refusal = errors.UpstreamError("Busy.", status=503, code="upstream_busy")
    assert (refusal.status, refusal.code) == (503, "upstream_busy")
    assert refusal.message == str(refusal) == "Busy."
    assert (errors.UpstreamError.status, errors.UpstreamError.code) == (502, "upstream_failed")


PASSING = [
    errors.BodyTimeout,
    errors.TooManySessions,
    errors.ShuttingDown,
    errors.PeersUnavailable,
    errors.DatabaseUnavailable,
]


@pytest.mark.parametrize("kind", [kind for kind, _, _ in REFUSALS])
def test_only_what_may_pass_by_itself_may_be_tried_again_by_client_libraries(
    kind: type[errors.Refusal],
) -> None:
    assert kind("No.").headers() == ({} if kind in PASSING else {"X-Should-Retry": "false"})


@pytest.mark.parametrize(
    ("status", "passes"),
    [(400, False), (403, False), (408, True), (409, False), (425, True), (429, True), (503, True)],
)
def test_a_refusal_of_an_applications_own_goes_by_its_status(status: int, passes: bool) -> None:
    assert (errors.Refusal("No.", status=status).headers() == {}) is passes


@pytest.mark.parametrize("status", [400, 429, 502, 503, 504])
def test_a_failure_of_deepseek_is_tried_again_by_a_client_only_if_that_is_said(status: int) -> None:
    """Our own tries are used up, and each further one may be billed."""
    refusal = errors.UpstreamError("No.", status=status)
    assert refusal.headers() == {"X-Should-Retry": "false"}
    assert errors.UpstreamError("Full.", status=status, should_retry=True).headers() == {}


NEVER = {"X-Should-Retry": "false"}


@pytest.mark.parametrize(
    ("refusal", "headers"),
    [
        (errors.TooManySessions("No.", retry_after=0), {"Retry-After": "0"}),
        (errors.TooManySessions("No.", retry_after=7), {"Retry-After": "7"}),
        (errors.SessionActive("Taken.", retry_after=1), {"Retry-After": "1", **NEVER}),
        (errors.Unauthorized("Who?", challenge="Bearer"), {"WWW-Authenticate": "Bearer", **NEVER}),
    ],
)
def test_when_to_try_again_and_the_challenge_of_a_401_become_headers(
    refusal: errors.Refusal, headers: dict[str, str]
) -> None:
    assert refusal.headers() == headers
