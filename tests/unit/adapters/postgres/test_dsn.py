"""The arguments of a connection, computed from a DSN."""

import pytest

from escalation_adapters.postgres.dsn import arguments
from escalation_core import InvalidValue


@pytest.mark.parametrize(
    ("dsn", "seconds"),
    [("postgresql://h/d", 10), ("postgresql://a,b/d?connect_timeout=2", "2"), ("host=h connect_timeout=3", "3")],
)
def test_connect_timeout(dsn: str, seconds: object) -> None:
    """The connect_timeout of a DSN overrides the default of 10 seconds, also with several hosts."""
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
    """A text that is not a valid DSN is refused, and the error quotes no part of it."""
    with pytest.raises(InvalidValue, match="dsn: is not a valid connection string") as refusal:
        arguments(dsn)
    assert "s3cr" not in str(refusal.value)
    assert "3t" not in str(refusal.value)
    assert "s3cr" not in repr(vars(refusal.value.__context__ or refusal.value))
