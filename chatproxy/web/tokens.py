"""Bearer tokens: who makes a request, by its ``Authorization`` header (RFC 6750).

A missing token and a wrong one are refused with the same sentence, and no refusal repeats a token.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable

from flask import request

from ..errors import Unauthorized

#: RFC 6750 wants a parameter after the scheme; a realm tells nothing.
_CHALLENGE = 'Bearer realm="chatproxy"'


def owner_by_token(tokens: Iterable[tuple[str, str]]) -> Callable[[], str]:
    """A function for ``ChatProxy(owner=...)`` that returns the owner of the request's token.

    The function raises ``Unauthorized`` if there is no token, or an unknown one.

    :param tokens: pairs of owner and token. An owner may have several.
    """
    known = [(owner, token.encode()) for owner, token in tokens]

    def owner() -> str:
        given = _given().encode()
        # All are compared, so that the time does not tell which one was nearly right.
        found = [name for name, token in known if hmac.compare_digest(token, given)]
        if not found:
            raise Unauthorized("This request needs a valid access token.", challenge=_CHALLENGE)
        return found[0]

    return owner


def _given() -> str:
    # Not by Werkzeug's parser, which fails at a Basic header that is not ASCII.
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
