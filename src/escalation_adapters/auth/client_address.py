"""Find the client address for rate limits, with X-Forwarded-For from trusted proxies."""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from escalation_core import InvalidValue
from escalation_core.checks import check_text

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNIX = "unix"
"""The peer of a Unix socket, which has no address. In ``proxies`` it means that each such peer is a proxy."""
Proxy = Network | str
"""A network, or ``UNIX``."""
UNKNOWN = "unknown"
"""One common key for all requests whose address cannot be read."""
_PORT = re.compile(r"^\[(.*)\](?::\d+)?$|^(\d+\.\d+\.\d+\.\d+):\d+$")
"""Some proxies append the port, and put IPv6 addresses in brackets then."""
_SITE = 64
"""Prefix length of one customer's IPv6 network. The limit counts the /64: a client can choose any address in it."""


def networks(proxies: Sequence[str]) -> tuple[Proxy, ...]:
    """Parse the addresses and networks of proxies; ``unix`` stays as it is.

    Raises:
        InvalidValue: a proxy is not an address, a network or unix.
    """
    remedy = "give an address or a network, for example 10.0.0.0/8, or unix for a Unix socket"
    if isinstance(proxies, str | bytes) or not isinstance(proxies, Sequence):
        raise InvalidValue("proxies", f"is {type(proxies).__name__}", "give a list of addresses and networks")
    found: list[Proxy] = []
    for proxy in proxies:
        try:
            found.append(UNIX if proxy == UNIX else ipaddress.ip_network(check_text(proxy, "proxies")))
        except ValueError:  # InvalidValue is a ValueError
            raise InvalidValue("proxies", f"{proxy!r} is neither an address nor a network", remedy) from None
    return tuple(found)


def client_address(peer: str | None, forwarded_for: Iterable[bytes], proxies: Sequence[Proxy]) -> str:
    """Return the rate-limit key of a request's client: an IPv4 address, or an IPv6 network.

    ``peer`` is the other end of the connection: an address or ``UNIX``. ``X-Forwarded-For`` counts only as far as our
    own proxies wrote it. Read from its end, the first address that is not a proxy's is the client's.
    """
    hops = [hop for value in forwarded_for for hop in value.decode("latin-1").split(",")]
    ours = [proxy for proxy in proxies if not isinstance(proxy, str)]
    if peer == UNIX and UNIX in proxies and hops:
        peer = hops.pop().strip()
    at = _address(peer)
    while at is not None and hops and any(at in network for network in ours):
        at = _address(hops.pop().strip())
    if at is None:
        return UNKNOWN
    return str(at) if at.version == 4 else str(ipaddress.ip_network((at, _SITE), strict=False))


def _address(text: str | None) -> Address | None:
    bare = _PORT.sub(r"\1\2", text or "")
    try:
        found = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if found.version == 6 else None
    return mapped or found
