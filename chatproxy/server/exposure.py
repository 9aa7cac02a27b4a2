"""Warnings at the start: what can be reached without a login, or read on the way.

``CHATPROXY_INSECURE`` (or ``chatproxy serve --insecure``) silences them, and changes nothing else.
"""

from __future__ import annotations

from ..config import Settings

_ANYBODY = (
    "Anybody who can reach this server can spend its key: give tokens to those who may "
    "(CHATPROXY_TOKENS), or put a proxy in front that asks for a login."
)
_ANY_HOST = (
    "This server answers to any host name: list its own in CHATPROXY_HOSTS, so that a stranger's "
    "page can't reach it by another name."
)
_PLAIN_KEY = (
    "The key goes to DEEPSEEK_BASE_URL over plain HTTP, and others can read it there: use https://."
)


def of_the_key(settings: Settings) -> list[str]:
    """What is open on the way to the upstream."""
    return [_PLAIN_KEY] if settings.shows_its_key and not settings.insecure else []


def on_a_public_address(settings: Settings) -> list[str]:
    """What is open if the standalone server listens on more than a loopback address."""
    if settings.insecure:
        return []
    sentences = [] if settings.tokens or not settings.api_key else [_ANYBODY]
    return sentences if settings.hosts else [*sentences, _ANY_HOST]
