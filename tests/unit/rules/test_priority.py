"""The priority of a page, and the order of a claim."""

from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Settings, SettingsError
from escalation_core.model import DEFAULT_PRIORITY
from escalation_core.rules.priority import STARVED_AFTER, SeverityOrder, claim_order

from ..kit import START, page

SECOND = timedelta(seconds=1)


def test_first_pages_go_before_later_ones_of_a_severity() -> None:
    """The severity counts more. Case and blanks make no difference, and what is not named counts as a warning."""
    order = SeverityOrder()
    names = ("critical", " Critical", "error", "warning", "P3", None, "info")
    assert [0, 0, 2, 4, 4, 4, 6] == [order.priority(name, first=True) for name in names]
    assert [1, 1, 3, 5, 5, 5, 7] == [order.priority(name, first=False) for name in names]
    assert DEFAULT_PRIORITY == order.priority("warning", first=False)


def test_without_warning_the_unnamed_come_last() -> None:
    assert [0, 1, 2, 2] == [SeverityOrder(("P1", "P2")).rank(name) for name in ("p1", "P2", "critical", None)]


def test_claim_order() -> None:
    """By priority, then by age; what has waited for ten minutes goes first, oldest first."""
    now = START + timedelta(hours=1)
    late, later = now - STARVED_AFTER, now - STARVED_AFTER - SECOND
    pages = [
        page(id=1, priority=0, due_at=now),
        page(id=2, priority=0, due_at=now - SECOND),
        page(id=3, priority=4, due_at=late),
        page(id=4, priority=6, due_at=later),
        page(id=5, priority=2, due_at=late + SECOND),
        page(id=6, priority=0, due_at=now),
    ]
    assert [4, 3, 2, 1, 6, 5] == [one.id for one in sorted(pages, key=lambda one: claim_order(one, now))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"critical"', "is not a valid JSON list"),
        ("[]", "names 0 severities; name 1 to 100"),
        ('["a", " A "]', "names 'a' twice; name each once"),
        ('["a", ""]', "'' is empty; name it"),
        ('["a", 1]', "1 is int"),
    ],
)
def test_bad_orders_are_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"ESC_SEVERITY_ORDER": text})
    assert said in str(caught.value)


@pytest.mark.parametrize("value", ["critical", None, {"a": 1}, ["x"] * 101])
def test_bad_orders_in_code_are_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="ESC_SEVERITY_ORDER"):
        Settings(severity_order=value)
