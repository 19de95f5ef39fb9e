"""Role-based access: principals, which the host's own login returns, and the roles that admit them."""

from collections.abc import Iterable

import attrs

from escalation_core import InvalidValue
from escalation_core.checks import check_text

MAX_ID_CHARS = 256
"""Longest id of a principal, in characters. The audit keeps the id, and rate limits count by it."""


def _roles(roles: Iterable[str]) -> frozenset[str]:
    # A str is an iterable of its letters, and ``role in roles`` would match a part of it.
    if isinstance(roles, str | bytes) or not isinstance(roles, Iterable):
        raise InvalidValue("roles", f"is {type(roles).__name__}", "give a set of role names")
    found = tuple(roles)
    if not all(isinstance(role, str) for role in found):
        raise InvalidValue("roles", "holds something that is not text", "give role names")
    return frozenset(found)


def _id(value: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_ID_CHARS:
        raise InvalidValue("id", "is not a valid name", f"give a name of 1 to {MAX_ID_CHARS} characters")
    return check_text(value, "id")


@attrs.frozen
class Principal:
    """A person or service that the host's login has authenticated. The audit keeps ``id``.

    Raises:
        InvalidValue: the id is empty or too long, or the roles are not a set of texts.
    """

    id: str = attrs.field(converter=_id)
    roles: frozenset[str] = attrs.field(default=frozenset(), converter=_roles)


def admits(principal: Principal | None, role: str | None) -> bool:
    """Return True if a principal has exactly this role. False without a principal, or if the role is empty or unset."""
    return bool(principal is not None and role and role.strip() and role in principal.roles)
