"""What something costs, to be compared with something else in the same run.

Machines are shared: an absolute time says as much of the neighbours as of the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMES = 5


def cost(function: Callable[[], object], prepare: Callable[[], object] | None = None) -> float:
    """CPU seconds of this thread for a call, the quickest of some.

    :param prepare: called before each, and not counted.
    """
    found = []
    for _ in range(_TIMES):
        if prepare is not None:
            prepare()
        begun = time.thread_time()
        function()
        found.append(time.thread_time() - begun)
    return min(found)
