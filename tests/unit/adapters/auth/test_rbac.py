"""Role checks: which principals are admitted."""

from typing import Any

import pytest

from escalation_adapters.auth.rbac import Principal, admits
from escalation_core import InvalidValue


@pytest.mark.parametrize(
    ("roles", "role", "expected"),
    [
        ({"ops_admin"}, "ops_admin", True),
        ({"other", "ops_admin"}, "ops_admin", True),
        (["ops_admin"], "ops_admin", True),
        ({"ops_admin"}, "ops_read", False),
        # The comparison is exact: no part of a role, no other case, no blanks.
        ({"ops_admins"}, "ops_admin", False),
        ({"OPS_ADMIN"}, "ops_admin", False),
        ({" ops_admin"}, "ops_admin", False),
        (set(), "ops_admin", False),
        # An empty or unset role admits no principal, even one that lists the same text.
        ({""}, "", False),
        ({" "}, " ", False),
        ({"None"}, None, False),
    ],
)
def test_rbac_denies_non_ops(roles: Any, role: str | None, expected: bool) -> None:
    """A principal is admitted if one of their roles equals the required role exactly."""
    assert expected == admits(Principal("ada", roles), role)


def test_request_without_a_principal_is_not_admitted() -> None:
    """A request without a principal has no role, so it is not admitted."""
    assert not admits(None, "ops_admin")


@pytest.mark.parametrize(
    ("given", "field"),
    [(("", ()), "id"), ((" ", ()), "id"), ((None, ()), "id"), (("ada", "ops_admin"), "roles"), (("ada", [1]), "roles")],
)
def test_bad_principals_are_refused(given: Any, field: str) -> None:
    """A principal refuses an empty id, and a text as its roles, since parts of the text would match."""
    with pytest.raises(InvalidValue, match=f"^{field}: "):
        Principal(*given)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 257])
def test_id_must_fit_into_the_audit(name: str) -> None:
    """A principal refuses an id that a store cannot hold or a limit cannot count."""
    with pytest.raises(InvalidValue, match="id: "):
        Principal(name)


@pytest.mark.parametrize("roles", [None, [["a"]], 7])
def test_roles_that_are_none_are_refused(roles: Any) -> None:
    """A principal refuses roles that are not a valid set of roles; the message names the field and the remedy."""
    with pytest.raises(InvalidValue, match=r"roles: .*give "):
        Principal("eve", roles)
