"""Check a DSN before the driver reads it, and return the other arguments of a connection."""

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from escalation_core import InvalidValue
from escalation_core.checks import check_text

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for a connection before the database counts as unavailable. A DSN's connect_timeout has priority."""
MIN_CONNECT_TIMEOUT = 2
"""Seconds: the driver never waits less than this for one host."""


def arguments(dsn: str) -> dict[str, Any]:
    """Check the DSN, and return the arguments that a connection takes beside it.

    Raises:
        InvalidValue: the DSN is not valid. The message holds no part of it: the driver would quote the part that it
            cannot read, which may belong to a password.
    """
    try:
        # Check the text first: the driver stops at a NUL, and its error for text that it cannot encode holds the DSN.
        parts = conninfo_to_dict(check_text(dsn, "dsn"))
        port, hosts = str(parts.get("port") or ""), str(parts.get("host") or parts.get("hostaddr") or "")
    except (InvalidValue, psycopg.ProgrammingError):
        parts, port, hosts = {}, "?", ""
    # After a / or @ in a password that is not escaped, the driver reads the rest as a port or a host.
    if not re.fullmatch(r"[0-9,]*", port) or any("@" in host[1:] for host in hosts.split(",")):
        remedy = "write postgresql://USER:PASSWORD@HOST/DATABASE, with special characters in it as %XX"
        raise InvalidValue("dsn", "is not a valid connection string", remedy)
    # Several hosts share the timeout: a host that does not answer must leave time for the next one.
    share = max(MIN_CONNECT_TIMEOUT, int(CONNECT_TIMEOUT) // (hosts.count(",") + 1))
    return {"connect_timeout": parts.get("connect_timeout") or share, "client_encoding": "utf8"}
