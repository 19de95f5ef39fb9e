"""How to connect, from what a host says: a DSN that is read before the driver sees it."""

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from escalation_core import InvalidValue
from escalation_core.checks import check_text

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for a connection before the database counts as unavailable; a DSN's own connect_timeout wins."""
MIN_CONNECT_TIMEOUT = 2
"""The driver waits no shorter for one host."""


def arguments(dsn: str) -> dict[str, Any]:
    """Return what a connection is made with beside the DSN, which is checked first.

    Raises:
        InvalidValue: it cannot be read; no part of it is in the message. The driver would quote the part that it cannot
            read: a password's, maybe.
    """
    try:
        # The driver raises what holds the DSN if it cannot encode it, and reads no further than a NUL.
        parts = conninfo_to_dict(check_text(dsn, "dsn"))
        port, hosts = str(parts.get("port") or ""), str(parts.get("host") or parts.get("hostaddr") or "")
    except (InvalidValue, psycopg.ProgrammingError):
        parts, port, hosts = {}, "?", ""
    # A bare / or @ in a password makes its rest look like a port or a host.
    if not re.fullmatch(r"[0-9,]*", port) or any("@" in host[1:] for host in hosts.split(",")):
        remedy = "write postgresql://USER:PASSWORD@HOST/DATABASE, and %XX for other characters in it"
        raise InvalidValue("dsn", "is not a valid connection string", remedy)
    # Of several hosts each gets its share: one that is silent must not use up the time of the one that answers.
    share = max(MIN_CONNECT_TIMEOUT, int(CONNECT_TIMEOUT) // (hosts.count(",") + 1))
    return {"connect_timeout": parts.get("connect_timeout") or share, "client_encoding": "utf8"}
