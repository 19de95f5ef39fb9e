"""Addresses: databases, receivers, proxies, peers, files, and instants on the command line."""

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

import click
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.auth.client_address import client_address, networks
from escalation_adapters.channels import http as quiet_http
from escalation_adapters.cli.params import INSTANT, SPAN
from escalation_adapters.files import read_secret
from escalation_adapters.postgres.dsn import arguments
from escalation_adapters.worker.app import open_store
from escalation_core import EscalationError, InvalidValue

from .material import HUSH, near, near_bytes, told

DSNS = near(
    f"postgresql://user:{HUSH}@host:5432/name?sslmode=require&connect_timeout=3",
    f"postgres://u:{HUSH}@a:1,[::1]:2/n?target_session_attrs=read-write",
    f"host=h port=5432 user=u password='{HUSH}'",
)


@given(DSNS)
def test_dsn(dsn: str) -> None:
    """A DSN is read, or refused without a part of the secret."""
    try:
        assert {"connect_timeout", "client_encoding"} == set(arguments(dsn))
    except InvalidValue as refusal:
        assert "dsn" == refusal.field
        assert HUSH not in told(refusal)


async def open_and_close(url: str) -> None:
    """Open a database and close it."""
    store = await open_store(url)
    await store.aclose()


@given(st.text(st.characters(), max_size=12))
def test_database(name: str) -> None:
    """For any name, a URL opens a store, or is refused with an EscalationError without the secret."""
    with tempfile.TemporaryDirectory() as folder:
        for url in (f"{name}://user:{HUSH}@h/d", f"sqlite:///{folder}/{name}"):
            if url.startswith("postgres"):
                continue
            try:
                asyncio.run(open_and_close(url))
            except EscalationError as refusal:
                assert HUSH not in told(refusal)


URLS = near(f"https://hooks.example/{HUSH}", f"https://u:{HUSH}@[::1]:8443/", f"http://1.2.3.4/{HUSH}?a=%20#f")


@given(URLS, st.booleans())
def test_url(url: str, allow_http: bool) -> None:
    """A URL that ``parse`` takes is absolute, has an allowed scheme and a host, and can be requested."""
    parsed = quiet_http.parse(url, allow_http=allow_http)
    if parsed is not None:
        assert parsed.is_absolute()
        assert parsed.scheme in (("https", "http") if allow_http else ("https",))
        assert parsed.host
        assert str(parsed).isascii()


@given(
    st.none() | near("10.0.0.1", "::1", "fe80::1%eth0", "[::ffff:10.0.0.1]:80"),
    st.lists(near_bytes(b"1.2.3.4, 10.0.0.1", b"[2001:db8::1]:443", b"unknown"), max_size=3),
    st.lists(near("10.0.0.0/8", "::1", "2001:db8::/32"), max_size=2),
)
def test_peer(peer: str | None, forwarded: list[bytes], proxies: list[str]) -> None:
    """Each request gets an ASCII key, and only a known proxy can change it."""
    try:
        known = networks(proxies)
    except InvalidValue as refusal:
        assert "proxies" == refusal.field
        known = ()
    key = client_address(peer, forwarded, known)
    assert key.isascii()
    assert known or key == client_address(peer, [], ())


@given(near_bytes(HUSH.encode(), b"\xef\xbb\xbf" + HUSH.encode() + b"\r\n", b"\xff" + HUSH.encode()))
def test_file(content: bytes) -> None:
    """A secret's file is read as UTF-8 text, or refused without a part of the secret."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "secret")
        path.write_bytes(content)
        try:
            assert read_secret(str(path)).encode() == content.removeprefix(b"\xef\xbb\xbf")
        except ValueError as refusal:
            assert HUSH not in told(refusal)


@given(near("30s", "999999w", "24h", "2025-01-31T12:00:00Z", "9999-12-31T23:59:59-23:59"))
def test_instants_of_the_command_line(text: str) -> None:
    """A span or an instant is read, or refused as a bad parameter."""
    try:
        span = SPAN.convert(text, None, None)
        assert timedelta() <= span
    except click.BadParameter:
        pass
    try:
        instant = INSTANT.convert(text, None, None)
        assert timedelta() <= instant if isinstance(instant, timedelta) else instant.utcoffset() is not None
    except click.BadParameter:
        pass
