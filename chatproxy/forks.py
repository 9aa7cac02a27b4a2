"""Forks: a process that is forked from this one begins with nothing of what runs here.

A fork copies the memory, and no thread but the one that forks. So in the child a flag says that a
thread runs which does not exist; a lock may be held for good by another one; and a socket, or what
is known of it, is shared with the parent. Whoever has any of these sets them up in a method of its
own, and has it called by ``begin``, here and again in each child:

* It must not wait, and must not touch what the parent still uses: a socket is left, not shut.
* Under gevent a child has copies of all greenlets, which go on there. Those that serve only the
  parent must find out that they are to end.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, cast

#: By the object that each is a method of.
_methods: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def begin(method: Callable[[], None]) -> None:
    """Call a method, and have it called in each child of this process while its object lives there.

    One method of an object, at most.
    """
    method()
    bound = cast("MethodType", method)
    _methods[bound.__self__] = bound.__func__


def _begin_all_again() -> None:
    for each, begin in list(_methods.items()):
        begin(each)


os.register_at_fork(after_in_child=_begin_all_again)
