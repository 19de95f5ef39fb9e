"""Who is admitted."""

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
        # To the letter: no part, no other case, no blanks.
        ({"ops_admins"}, "ops_admin", False),
        ({"OPS_ADMIN"}, "ops_admin", False),
        ({" ops_admin"}, "ops_admin", False),
        (set(), "ops_admin", False),
        # An empty or unset role admits no one, whatever roles they have.
        ({""}, "", False),
        ({" "}, " ", False),
        ({"None"}, None, False),
    ],
)
def test_rbac_denies_non_ops(roles: Any, role: str | None, expected: bool) -> None:
    """A principal is admitted if the role is one of theirs, exactly."""
    assert expected == admits(Principal("ada", roles), role)


def test_request_without_a_principal_is_not_admitted() -> None:
    """Without a principal there is no role."""
    assert not admits(None, "ops_admin")


@pytest.mark.parametrize(
    ("given", "field"),
    [(("", ()), "id"), ((" ", ()), "id"), ((None, ()), "id"), (("ada", "ops_admin"), "roles"), (("ada", [1]), "roles")],
)
def test_bad_principals_are_refused(given: Any, field: str) -> None:
    """A text in place of a set of roles would be searched for parts: refused, as is a principal without a name."""
    with pytest.raises(InvalidValue, match=f"^{field}: "):
        Principal(*given)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 257])
def test_id_must_fit_into_the_audit(name: str) -> None:
    """What no store can hold, or no limit can be counted by, is refused before it acts."""
    with pytest.raises(InvalidValue, match="id: "):
        Principal(name)


@pytest.mark.parametrize("roles", [None, [["a"]], 7])
def test_roles_that_are_none_are_refused(roles: Any) -> None:
    """The message names the field and the remedy."""
    with pytest.raises(InvalidValue, match=r"roles: .*give "):
        Principal("eve", roles)
