"""The address a request counts for: the other end of the connection, or the address that a proxy reports."""

import pytest

from escalation_adapters.auth.client_address import UNIX, UNKNOWN, client_address, networks
from escalation_core import InvalidValue

PROXIES = networks(["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        # An address that is not a trusted proxy can write any header; the function ignores the header.
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
        # All addresses that cannot be read share one limit; none of them escapes it.
        ("10.1.1.1", [b"unknown"], UNKNOWN),
        ("10.1.1.1", [b""], UNKNOWN),
        ("10.1.1.1", [b"\xff\xfe"], UNKNOWN),
        (None, [], UNKNOWN),
        ("/run/socket", [b"1.2.3.4"], UNKNOWN),
        (UNIX, [b"1.2.3.4"], UNKNOWN),
        # A provider gives each IPv6 customer a whole network.
        ("2001:db8::1", [], "2001:db8::/64"),
        ("2001:db8::ffff:1", [], "2001:db8::/64"),
        ("2001:db8:0:1::1", [], "2001:db8:0:1::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("2001:db8:ffff::1", [b"2001:db8:1::5"], "2001:db8:1::/64"),
        ("::ffff:198.51.100.1", [], "198.51.100.1"),
        ("::ffff:10.1.1.1", [b"1.2.3.4"], "1.2.3.4"),
    ],
)
def test_address_a_request_counts_for(peer: str | None, forwarded: list[bytes], expected: str) -> None:
    """A request counts for the other end of the connection, or for the address that a trusted proxy reports."""
    assert expected == client_address(peer, forwarded, PROXIES)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (UNIX, [b"1.2.3.4"], "1.2.3.4"),
        (UNIX, [b"9.9.9.9, 1.2.3.4", b"10.2.2.2"], "1.2.3.4"),
        (UNIX, [], UNKNOWN),
        # Only the connection itself can be a Unix socket: the word "unix" in a header is not an address.
        (UNIX, [b"9.9.9.9, unix"], UNKNOWN),
        (None, [b"1.2.3.4"], UNKNOWN),
        ("", [b"1.2.3.4"], UNKNOWN),
        ("198.51.100.1", [b"1.2.3.4"], "198.51.100.1"),
        ("10.1.1.1", [b"9.9.9.9, unix"], UNKNOWN),
    ],
)
def test_address_a_request_at_a_unix_socket_counts_for(peer: str | None, forwarded: list[bytes], expected: str) -> None:
    """The function trusts a proxy behind a Unix socket if "unix" is listed; this trust extends to no other address."""
    assert expected == client_address(peer, forwarded, networks(["unix", "10.0.0.0/8"]))


@pytest.mark.parametrize("proxy", ["", "UNIX", "unix:", "localhost", "10.0.0.1/8", "10.0.0.0/33"])
def test_proxies_are_addresses(proxy: str) -> None:
    """The function refuses a proxy that is neither an address nor a network."""
    with pytest.raises(InvalidValue, match="proxies: "):
        networks([proxy])
