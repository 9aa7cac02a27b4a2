"""A process that is forked from this one begins with nothing of what runs here."""

from __future__ import annotations

import os
import weakref

import pytest

from chatproxy import forks

from .support.waiting import wait_for_garbage


class Counted:
    """Counts how often it has begun, in this process."""

    def __init__(self) -> None:
        self.begun = 0
        self.begin()
        forks.begin_again(self.begin)

    def begin(self) -> None:
        self.begun += 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of the fork, from 3.12 on
def test_what_a_process_has_for_itself_begins_again_in_each_child() -> None:
    several = [Counted(), Counted()]
    children = [os.fork() or os._exit(sum(each.begun for each in several)) for _ in range(2)]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [4, 4]
    assert [each.begun for each in several] == [1, 1]


def test_nothing_is_kept_alive_for_that() -> None:
    counted = weakref.ref(Counted())
    wait_for_garbage(lambda: counted() is None)
