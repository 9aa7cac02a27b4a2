"""Warnings at the start: what can be reached without a login, or read on the way.

``CHATPROXY_INSECURE`` (or ``chatproxy serve --insecure``) silences them, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..answers.upstream import CONFIGURED, Upstream
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
_PLAIN_KEY_OF = (
    "The key goes to the upstream {} over plain HTTP, and others can read it there: use https://."
)


def of_the_keys(settings: Settings, upstreams: Iterable[Upstream] = ()) -> list[str]:
    """What is open on the way to DeepSeek, and to these upstreams."""
    if settings.insecure:
        return []
    shown = sorted({each.name for each in upstreams if each.shows_a_secret} - {CONFIGURED})
    sentences = [_PLAIN_KEY] if settings.shows_its_key else []
    return sentences + [_PLAIN_KEY_OF.format(name) for name in shown]


def on_a_public_address(settings: Settings) -> list[str]:
    """What is open if the standalone server listens on more than a loopback address."""
    if settings.insecure:
        return []
    has_a_key = settings.api_key or settings.upstreams
    sentences = [] if settings.tokens or not has_a_key else [_ANYBODY]
    return sentences if settings.hosts else [*sentences, _ANY_HOST]
