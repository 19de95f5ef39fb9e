"""Rate limits: how many requests each limit admits."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.auth.rate_limit import Decision, Limit, MemoryLimiter

TWO = Limit(2, timedelta(seconds=10))


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


async def test_limit_over_a_sliding_window(time: Time) -> None:
    """The limiter admits 2 requests per window; refused ones do not count, and get the time until the next is free."""
    limiter = MemoryLimiter(now=time)
    assert Decision(True, 1) == await limiter.hit("k", TWO)
    time.now += 4
    assert Decision(True, 0) == await limiter.hit("k", TWO)
    for _ in range(3):
        assert Decision(False, 0, timedelta(seconds=6)) == await limiter.hit("k", TWO)
    assert Decision(True, 1) == await limiter.hit("other", TWO)
    time.now += 6
    assert Decision(True, 0) == await limiter.hit("k", TWO)
    assert Decision(False, 0, timedelta(seconds=4)) == await limiter.hit("k", TWO)


@given(st.lists(st.floats(0, 7), max_size=60))
async def test_never_more_than_the_limit(waits: list[float]) -> None:
    """For any times of requests, no window holds more admitted requests than the limit."""
    time = Time()
    limiter = MemoryLimiter(now=time)
    taken: list[float] = []
    for wait in waits:
        time.now += wait
        decision = await limiter.hit("k", TWO)
        if decision.allowed:
            taken.append(time.now)
        assert decision.allowed == (decision.retry_after == timedelta())
        assert TWO.count >= sum(at > time.now - 10 for at in taken)


async def test_memory_is_bounded(time: Time) -> None:
    """10,000 refused requests leave two instants of one key; beyond ``most_keys`` the limiter drops the stalest key."""
    limiter = MemoryLimiter(most_keys=3, now=time)
    for _ in range(10_000):
        await limiter.hit("k", TWO)
    assert 2 == len(limiter._hits["k"])
    for key in ("a", "b", "k", "c"):
        await limiter.hit(key, TWO)
    assert ["b", "k", "c"] == list(limiter._hits)


async def test_limit_of_nothing_admits_no_request(time: Time) -> None:
    """A limit of 0 admits no request."""
    assert Decision(False, 0, timedelta(seconds=60)) == await MemoryLimiter(now=time).hit("k", Limit(0))
