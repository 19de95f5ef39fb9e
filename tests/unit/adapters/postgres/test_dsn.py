"""What a connection is made with, from a DSN."""

import pytest

from escalation_adapters.postgres.dsn import arguments
from escalation_core import InvalidValue


@pytest.mark.parametrize(
    ("dsn", "seconds"),
    [("postgresql://h/d", 10), ("postgresql://a,b/d?connect_timeout=2", "2"), ("host=h connect_timeout=3", "3")],
)
def test_connect_timeout(dsn: str, seconds: object) -> None:
    """A DSN's own connect_timeout wins, as it should with several hosts."""
    assert seconds == arguments(dsn)["connect_timeout"]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3cr/3t@h/d",
        "postgresql://me:s3cr@3t@h/d",
        "host=s3cr port=3t",
        "s3cr",
        "postgresql://me:s3cr\udcff3t@h/d",
        "postgresql://me:s3cr\0003t@h/d",
    ],
)
def test_unreadable_dsn_is_refused(dsn: str) -> None:
    """What is no DSN is refused, and no part of it is quoted."""
    with pytest.raises(InvalidValue, match="dsn: is not a valid connection string") as refusal:
        arguments(dsn)
    assert "s3cr" not in str(refusal.value)
    assert "3t" not in str(refusal.value)
    assert "s3cr" not in repr(vars(refusal.value.__context__ or refusal.value))
