"""How often somebody may knock, and for whom a knock counts."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.auth.client_address import UNIX, UNKNOWN, client_address, networks
from escalation_adapters.auth.rate_limit import Decision, Limit, MemoryLimiter
from escalation_core import InvalidValue

TWO = Limit(2, timedelta(seconds=10))


class Time:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


async def test_limit_over_a_sliding_window(time: Time) -> None:
    """So many within any window; refused knocks do not count, and are told when the next one is free."""
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
    """Whenever somebody knocks, no window holds more than the limit."""
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
    """Ten thousand refused knocks leave one key's few instants; beyond the most keys the stalest is forgotten."""
    limiter = MemoryLimiter(most_keys=3, now=time)
    for _ in range(10_000):
        await limiter.hit("k", TWO)
    assert 2 == len(limiter._hits["k"])
    for key in ("a", "b", "k", "c"):
        await limiter.hit(key, TWO)
    assert ["b", "k", "c"] == list(limiter._hits)


async def test_limit_of_nothing_admits_nobody(time: Time) -> None:
    """A limit of 0 is a closed door."""
    assert Decision(False, 0, timedelta(seconds=60)) == await MemoryLimiter(now=time).hit("k", Limit(0))


# --- peers

PROXIES = networks(["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        # Whoever is no proxy of ours may write what they like.
        ("198.51.100.1", [b"1.2.3.4"], "198.51.100.1"),
        ("10.1.1.1", [b"1.2.3.4"], "1.2.3.4"),
        ("10.1.1.1", [b"9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        ("10.1.1.1", [b"9.9.9.9", b"1.2.3.4, 10.2.2.2"], "1.2.3.4"),
        ("192.0.2.7", [b"1.2.3.4"], "1.2.3.4"),
        ("192.0.2.8", [b"1.2.3.4"], "192.0.2.8"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [b"10.2.2.2"], "10.2.2.2"),
        # Some proxies write the port as well.
        ("10.1.1.1", [b"1.2.3.4:5678"], "1.2.3.4"),
        ("10.1.1.1", [b"[2001:db8::1]:443"], "2001:db8::/64"),
        ("10.1.1.1", [b"[2001:db8::1]"], "2001:db8::/64"),
        ("10.1.1.1", [b"[1.2.3.4"], UNKNOWN),
        # What cannot be read counts for all together, never for nobody.
        ("10.1.1.1", [b"unknown"], UNKNOWN),
        ("10.1.1.1", [b""], UNKNOWN),
        ("10.1.1.1", [b"\xff\xfe"], UNKNOWN),
        (None, [], UNKNOWN),
        ("/run/socket", [b"1.2.3.4"], UNKNOWN),
        (UNIX, [b"1.2.3.4"], UNKNOWN),
        # One IPv6 customer has a whole network.
        ("2001:db8::1", [], "2001:db8::/64"),
        ("2001:db8::ffff:1", [], "2001:db8::/64"),
        ("2001:db8:0:1::1", [], "2001:db8:0:1::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("2001:db8:ffff::1", [b"2001:db8:1::5"], "2001:db8:1::/64"),
        ("::ffff:198.51.100.1", [], "198.51.100.1"),
        ("::ffff:10.1.1.1", [b"1.2.3.4"], "1.2.3.4"),
    ],
)
def test_for_whom_a_knock_counts(peer: str | None, forwarded: list[bytes], expected: str) -> None:
    """The other end of the connection, or what our own proxies say of it."""
    assert expected == client_address(peer, forwarded, PROXIES)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (UNIX, [b"1.2.3.4"], "1.2.3.4"),
        (UNIX, [b"9.9.9.9, 1.2.3.4", b"10.2.2.2"], "1.2.3.4"),
        (UNIX, [], UNKNOWN),
        # Only the connection itself is one: the word in a header is no address.
        (UNIX, [b"9.9.9.9, unix"], UNKNOWN),
        (None, [b"1.2.3.4"], UNKNOWN),
        ("", [b"1.2.3.4"], UNKNOWN),
        ("198.51.100.1", [b"1.2.3.4"], "198.51.100.1"),
        ("10.1.1.1", [b"9.9.9.9, unix"], UNKNOWN),
    ],
)
def test_for_whom_a_knock_at_a_unix_socket_counts(peer: str | None, forwarded: list[bytes], expected: str) -> None:
    """Where the proxy comes through a Unix socket it is believed, and nobody else for it."""
    assert expected == client_address(peer, forwarded, networks(["unix", "10.0.0.0/8"]))


@pytest.mark.parametrize("proxy", ["", "UNIX", "unix:", "localhost", "10.0.0.1/8", "10.0.0.0/33"])
def test_proxies_are_addresses(proxy: str) -> None:
    """What is neither an address nor a network is refused."""
    with pytest.raises(InvalidValue, match="proxies: "):
        networks([proxy])
