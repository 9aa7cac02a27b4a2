"""The end of a worker: who may still begin, and who is waited for. See also ``test_registry``."""

from __future__ import annotations

import weakref

import pytest

from chatproxy.answers.drain import Drain
from chatproxy.answers.session import SessionKey
from chatproxy.cluster.registry import Registry
from chatproxy.config import Settings
from chatproxy.errors import ShuttingDown

from .support.sessions import new_session
from .support.table import Table, TablePeers
from .support.waiting import wait_for_garbage


def test_nobody_is_admitted_once_it_has_begun() -> None:
    drain = Drain()
    drain.run(0.0)
    for refused in (drain.check, lambda: drain.admit(new_session())):
        with pytest.raises(ShuttingDown) as error:
            refused()
        assert error.value.status == 503


def test_of_a_session_whose_end_was_told_nothing_is_kept() -> None:
    drain, session = Drain(), new_session()
    drain.admit(session)
    drain.told(session)
    kept = weakref.ref(session)
    del session
    wait_for_garbage(lambda: kept() is None)


def test_a_start_that_comes_too_late_is_refused_without_asking_the_other_workers() -> None:
    table = Table()
    registry = Registry(Settings(), object(), TablePeers(table))
    registry.drain.run(0.0)
    table.away = True
    with pytest.raises(ShuttingDown):
        registry.claim(SessionKey("", "session_1"))
