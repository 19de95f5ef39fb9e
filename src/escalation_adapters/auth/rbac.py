"""Who may do what: principals, which the host knows from its own login, and the roles that admit them."""

from collections.abc import Iterable

import attrs

from escalation_core import InvalidValue
from escalation_core.checks import check_text

MAX_ID_CHARS = 256
"""Characters of a principal's id: it stands in the audit, and limits are counted by it."""


def _roles(roles: Iterable[str]) -> frozenset[str]:
    # A str is an iterable of its letters, and "ops_admin" in it would be a search for a part.
    if isinstance(roles, str | bytes) or not isinstance(roles, Iterable):
        raise InvalidValue("roles", f"is {type(roles).__name__}", "give a set of role names")
    found = tuple(roles)
    if not all(isinstance(role, str) for role in found):
        raise InvalidValue("roles", "holds something that is not text", "give role names")
    return frozenset(found)


def _id(value: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_ID_CHARS:
        raise InvalidValue("id", "is not a valid name", f"name who it is, in 1 to {MAX_ID_CHARS} characters")
    return check_text(value, "id")


@attrs.frozen
class Principal:
    """Somebody whom the host has recognized. ``id`` stands in the audit.

    Raises:
        InvalidValue: the id is empty, or the roles are no set of texts.
    """

    id: str = attrs.field(converter=_id)
    roles: frozenset[str] = attrs.field(default=frozenset(), converter=_roles)


def admits(principal: Principal | None, role: str | None) -> bool:
    """Tell whether a principal has a role, to the letter. An empty or unset role admits nobody; nobody has none."""
    return bool(principal is not None and role and role.strip() and role in principal.roles)
