"""A pytest plugin: an application's tests need no key and no network, and see that a Stop stops.

pytest finds it by itself if both are installed (``pip install "chatproxy[testing]"``). It has:

* ``deepseek``: the simulated DeepSeek, for applications that are made after it (``DeepSeek``).
* ``stop_reaches_upstream``: begins an answer, presses Stop, and sees that the connection to
  DeepSeek is gone (``StopReachesUpstream``).

One simulated DeepSeek serves all tests of a process, and forgets the last test before each. Nothing
is imported or started for who uses neither. ``pytest -p no:chatproxy.testing`` leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .deepseek import DeepSeek, wait_for
    from .stop import StopReachesUpstream

__all__ = ["DeepSeek", "StopReachesUpstream", "wait_for"]

_HOMES = {"DeepSeek": "deepseek", "StopReachesUpstream": "stop", "wait_for": "deepseek"}
_RUNNING: pytest.StashKey[DeepSeek] = pytest.StashKey()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@pytest.fixture(scope="session")
def simulated_deepseek(request: pytest.FixtureRequest) -> Iterator[DeepSeek]:
    """The same as ``deepseek``, but the environment stays as it is: use its ``settings``."""
    try:
        from .deepseek import DeepSeek
    except ModuleNotFoundError as missing:
        pytest.fail(f"This needs {missing.name}: pip install 'chatproxy[testing]'", pytrace=False)
    deepseek = request.config.stash[_RUNNING] = DeepSeek()
    yield deepseek
    del request.config.stash[_RUNNING]
    deepseek.close()


@pytest.fixture(scope="session")
def deepseek(simulated_deepseek: DeepSeek) -> Iterator[DeepSeek]:
    """The simulated DeepSeek, for every application of this process that is made from now on."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in simulated_deepseek.settings.items():
            patch.setenv(name, value)
        yield simulated_deepseek


@pytest.fixture
def stop_reaches_upstream(simulated_deepseek: DeepSeek) -> StopReachesUpstream:
    """Begins an answer, presses Stop, and sees that the connection to DeepSeek is gone."""
    from .stop import StopReachesUpstream

    return StopReachesUpstream(simulated_deepseek)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin each test with an empty ledger."""
    if (deepseek := item.config.stash.get(_RUNNING, None)) is not None:
        deepseek.reset()
