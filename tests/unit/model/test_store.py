"""The result of a store's proof that no page is missing or duplicated."""

from typing import Any

import attrs

from escalation_core import Integrity


def test_proof_holds() -> None:
    """The proof fails if any one of its three counts is not zero."""
    good = Integrity(escalations=3, duplicates=0, without_page=0, without_escalation=0, pages={"delivered": 3})
    assert good.holds
    for broken in ("duplicates", "without_page", "without_escalation"):
        counts: dict[str, Any] = {broken: 1}
        assert not attrs.evolve(good, **counts).holds
