"""Shares: the size of each, the largest, the oldest key in it; and slots, bounded in number."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.answers.shares import Shares, SlotPool
from chatproxy.errors import TooManySessions

from .support.waiting import at_once

STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 9), st.sampled_from("abc"), st.integers(1, 5))
)


@given(STEPS)
def test_the_sizes_and_the_largest_are_right_after_any_steps(
    steps: list[tuple[bool, int, str, int]],
) -> None:
    shares, model = Shares[int, str](), dict[int, tuple[str, int]]()
    for put, key, share, size in steps:
        if put and key in model and model[key][0] == share:
            shares.resize(key, size)
            model[key] = share, size
            put = False  # noqa: PLW2901
        elif key in model:
            shares.remove(key)
            del model[key]
        if put:
            shares.put(key, share, size)
            model[key] = share, size
        sizes = Counter[str]()
        for name, length in model.values():
            sizes[name] += length
        assert shares.size == sum(sizes.values())
        assert list(shares) == list(model)
        assert {name: shares.size_of(name) for name in "abc"} == {n: sizes[n] for n in "abc"}
        if model:
            largest = shares.largest()
            assert sizes[largest] == max(sizes.values())
            assert list(shares.of(largest)) == [k for k, (n, _) in model.items() if n == largest]


def test_of_equal_shares_the_one_that_is_so_for_longest_is_the_largest() -> None:
    shares = Shares[str, str]()
    for name in "abc":
        shares.put(name, name)
    assert shares.largest() == "a"
    shares.remove("a")
    shares.put("a", "a")
    assert shares.largest() == "b"


def test_it_takes_no_longer_with_many_shares() -> None:
    shares = Shares[int, int]()
    for number in range(50_000):
        shares.put(number, number)
    begin = time.process_time()
    for number in range(50_000, 51_000):
        shares.put(number, number)
        shares.remove(next(shares.of(shares.largest())))
    assert time.process_time() - begin < 1.0, "a look at all of them each time takes 50 times that"


def test_one_takes_no_more_slots_than_one_may_and_leaves_the_rest_to_others() -> None:
    pool = SlotPool(3, 2)
    give_back = pool.take("ada")
    pool.take("ada")
    with pytest.raises(TooManySessions):
        pool.take("ada")
    give_back()
    pool.take("bob")
    pool.take("ada")
    with pytest.raises(TooManySessions):
        pool.take("eve")


def test_of_many_at_once_no_more_get_in_than_there_are_slots() -> None:
    pool = SlotPool(3)
    returns: list[Callable[[], None]] = []
    refused: list[TooManySessions] = []

    def take() -> None:
        try:
            returns.append(pool.take())
        except TooManySessions as refusal:
            refused.append(refusal)

    at_once(*[take] * 20)
    assert (len(returns), len(refused)) == (3, 17)
    returns[0]()
    returns[0]()  # a second time frees no second slot
    take()
    take()
    assert (len(returns), len(refused)) == (4, 18)
