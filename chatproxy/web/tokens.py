"""Bearer tokens: who makes a request, by its ``Authorization`` header (RFC 6750).

A missing token and a wrong one get the same refusal, and no token is ever part of one.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable

from flask import request

from ..errors import Unauthorized

#: RFC 6750 wants a parameter after the scheme; a realm is the one that says nothing.
_CHALLENGE = 'Bearer realm="chatproxy"'


def owner_by_token(tokens: Iterable[tuple[str, str]]) -> Callable[[], str]:
    """A function for ``ChatProxy(owner=...)`` that returns the owner of the request's token.

    It raises ``Unauthorized`` where there is none, or another.

    :param tokens: pairs of owner and token. An owner may have several.
    """
    known = [(owner, token.encode()) for owner, token in tokens]

    def owner() -> str:
        given = _given().encode()
        # All of them, so that the time says nothing about which one was nearly right.
        found = [name for name, token in known if hmac.compare_digest(token, given)]
        if not found:
            raise Unauthorized("This request needs a valid access token.", challenge=_CHALLENGE)
        return found[0]

    return owner


def _given() -> str:
    # By hand: Werkzeug's own parser fails at a Basic header that is not ASCII.
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
