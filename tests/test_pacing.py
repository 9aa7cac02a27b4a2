"""A connection gives way when it has run for long, and pays for what it uses beyond its share."""

from chatproxy.server.gunicorn.pacing import (
    BURST,
    LONGEST,
    REFILL,
    SHARE,
    SLICE,
    TOLERANCE,
    LeakyBucket,
    Pacer,
)

MS = 0.001


def run(pacers, seconds, piece):
    """Let connections work in turn, each ``piece`` at a time, until the clock has gone so far.

    :returns: how long each has worked.
    """
    now, worked = 0.0, [0.0 for _ in pacers]
    wakes = [0.0 for _ in pacers]
    while now < seconds:
        turn = min(range(len(pacers)), key=wakes.__getitem__)
        now = max(now, wakes[turn])
        pacers[turn].rest(now)
        now += piece
        worked[turn] += piece
        wakes[turn] = now + (pacers[turn].work(now) or 0.0)
    return worked


def test_after_a_slice_a_connection_yields_without_a_pause_unless_it_has_waited_meanwhile():
    pacer = Pacer(LeakyBucket(), 0.0)
    assert pacer.work(0.6 * SLICE) is None
    assert pacer.work(1.2 * SLICE) == 0.0
    pacer.rest(1.2 * SLICE)
    assert pacer.work(1.8 * SLICE) is None


def test_what_goes_beyond_the_burst_is_paid_for_by_sleeping():
    pause = Pacer(LeakyBucket(), 0.0).work(BURST + 10 * MS)
    assert pause is not None
    assert abs(pause - (10 * MS / SHARE - TOLERANCE)) < MS / 1000


def test_a_greedy_connection_has_no_more_than_the_share_of_all_greedy_ones():
    (worked,) = run([Pacer(LeakyBucket(), 0.0)], seconds=2.0, piece=0.5 * MS)
    assert 0.9 * SHARE < worked / 2.0 < SHARE + REFILL + 0.02


def test_a_hundred_greedy_connections_have_no_more_and_each_has_the_same():
    bucket = LeakyBucket()
    worked = run([Pacer(bucket, 0.0) for _ in range(100)], seconds=10.0, piece=0.5 * MS)
    beyond_the_burst = sum(worked) - 100 * BURST
    assert beyond_the_burst < (SHARE + 100 * REFILL + 0.02) * 10.0
    assert max(worked) < 2 * min(worked)


def test_beside_greedy_ones_a_modest_connection_never_sleeps():
    bucket = LeakyBucket()
    greedy, modest = Pacer(bucket, 0.0), Pacer(bucket, 0.0)
    assert greedy.work(1.0)
    modest.rest(1.0)
    assert modest.work(1.0 + 0.9 * SLICE) is None


def test_a_connection_that_works_little_for_ever_never_sleeps():
    pacer, now = Pacer(LeakyBucket(), 0.0), 0.0
    for _ in range(1000):
        pacer.rest(now)
        now += 0.1 * MS
        assert pacer.work(now) is None
        now += 100 * MS


def test_a_request_is_charged_only_if_the_next_one_was_there_already():
    waited, pipelined = Pacer(LeakyBucket(), 0.0), Pacer(LeakyBucket(), 0.0)
    for pacer in (waited, pipelined):
        pacer.serve(1.5 * SLICE)
    waited.rest(1.5 * SLICE)
    assert waited.work(1.6 * SLICE) is None
    assert pipelined.work(1.6 * SLICE) == 0.0


def test_an_answer_of_an_hour_is_charged_as_a_short_one():
    pacer = Pacer(LeakyBucket(), 0.0)
    pacer.serve(3600.0)
    pause = pacer.work(3600.0 + BURST)
    assert pause is not None
    assert pause <= LONGEST / SHARE
