"""Scopes: the name by which all workers of an application know it, and no other application.

The workers of one application find each other by its scope, in a directory or in Redis. So all its
workers must use the same scope, and no other application may. A name that is given to
``ChatProxy`` ensures both. Without one, the scope is the application's own name, which several
often share (``Flask(__name__)`` in a factory): each further one in a process gets a number.

* A number is never used again, even if an earlier application is garbage: all processes that make
  the same applications in the same order agree, whatever their garbage collectors do.
* An application that is made during a request, as one for a tenant is when its first user comes,
  gets a random number: no two processes make those in the same order, and a Stop that misses is
  better than one that reaches another tenant's answer.
* A given name is free again when its application is garbage: a test suite makes the same one again
  and again. As long as that application lives, no other gets the name.

No single application can keep the list of all in its process, so this module does.
"""

from __future__ import annotations

import gc
import logging
import re
import secrets
import sys
import threading
import time
import weakref
from collections import Counter
from types import FrameType
from typing import Any
from urllib.parse import quote

from .errors import ConfigError

logger = logging.getLogger("chatproxy")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: Numbers of applications of one name after which to look whether several of them live.
_POWERS = {2**exponent for exponent in range(20)}

_ALONE_MARK = "#alone-"
_SEVERAL = (
    "Several applications of this process are called %s: give each a name, ChatProxy(name=...), so "
    "that all workers agree which is which, in whatever order they are made."
)
_ALONE = (
    "The application %s was made during a request, and has no name of its own: other processes can "
    "neither stop its answers nor read them again. Give it a name, ChatProxy(name=...)."
)

_lock = threading.Lock()
_scopes: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_counts: Counter[str] = Counter()
_warned: set[tuple[str, str]] = set()


def check_name(name: Any) -> str:
    """Return a name that can be given to an application.

    :raises ValueError: if this can't be one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "must be 1 to 64 characters of A-Z a-z 0-9 . _ - and begin with a letter or digit"
        )
    return name


def claim(app: Any, name: str | None, default: str) -> str:
    """Return the scope of an application from now on.

    :param app: the application; referred to weakly.
    :param name: the name that it was given; None if it was not.
    :param default: the application's own name.
    :raises ConfigError: if another living application of this process has the given name.
    """
    if name is None:
        return _numbered(app, quote(default, safe="", errors="replace"))
    # An application that is garbage may be referred to a moment longer, by one of its threads.
    for pause in (0.0, 0.01, 0.05, 0.2):
        if _enter(app, name):
            return name
        time.sleep(pause)
        gc.collect()
    if not _enter(app, name):
        raise ConfigError(
            f"Two applications of this process are called {name}: give each a name of its own, "
            "ChatProxy(name=...)."
        )
    return name


def is_alone(scope: str) -> bool:
    """Whether no other process has, or will have, an application of this scope."""
    return _ALONE_MARK in scope


def applications() -> list[Any]:
    """The living applications of this process that have been set up."""
    return [app for app in list(_scopes.values()) if "chatproxy" in app.extensions]


def _enter(app: Any, scope: str) -> bool:
    with _lock:
        return _scopes.setdefault(scope, app) is app


def _is_shared(default: str) -> bool:
    gc.collect()
    return len([scope for scope in _scopes if scope.partition("#")[0] == default]) > 1


def _numbered(app: Any, default: str) -> str:
    # It has one already if this is a second try, after a wrong setting.
    if known := [scope for scope, other in _scopes.items() if other is app]:
        return known[0]
    if _is_during_a_request():
        _warn_once(_ALONE, default)
        scope = f"{default}{_ALONE_MARK}{secrets.token_hex(4)}"
        _enter(app, scope)
        return scope
    while True:
        with _lock:
            _counts[default] += 1
            number = _counts[default]
        scope = default if number == 1 else f"{default}#{number}"
        if _enter(app, scope):
            break
    # Not each time: collecting garbage takes a while, and a test suite makes hundreds.
    if number - 1 in _POWERS and (_SEVERAL, default) not in _warned and _is_shared(default):
        _warn_once(_SEVERAL, default)
    return scope


def _warn_once(sentence: str, default: str) -> None:
    if (sentence, default) not in _warned:
        _warned.add((sentence, default))
        logger.warning(sentence, default)


def _is_during_a_request() -> bool:
    """Whether a caller has a WSGI environment (PEP 3333): then this runs during a request."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if any(type(value) is dict and "wsgi.input" in value for value in frame.f_locals.values()):
            return True
        frame = frame.f_back
    return False
