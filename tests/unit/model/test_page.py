"""Records of a page: the stored states, a store's row, and the defaults of pages and outcomes."""

from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import Delivered, Page, Rejected, Retry, idempotency_key
from escalation_core.model import CANCELS, NEEDS_REPLAN, NewPage, PageRecord, PageState

from ..kit import MINUTE, START, incident, page

INSTANTS = {"created": START, "due": START + MINUTE, "late": START + 3 * MINUTE}
ROW: tuple[Any, ...] = (
    7,
    "k",
    2,
    3,
    "ops",
    "d",
    "leased",
    "created",
    "due",
    4,
    5,
    86_400_000_001,
    "busy",
    "oncall:x",
    "5f",
    2,
    "late",
    "b",
)
RECORD = PageRecord(
    id=7,
    incident_key="k",
    episode=2,
    level=3,
    target="ops",
    dedup_key="d",
    state=PageState.LEASED,
    created_at=START,
    due_at=START + MINUTE,
    fence=4,
    attempts=5,
    tried_for=timedelta(days=1, microseconds=1),
    reason="busy",
    via="oncall:x",
    schedule_digest="5f",
    priority=2,
    hand_over_at=START + 3 * MINUTE,
    bundle="b",
)

UNSAID: dict[str, Any] = {"reason": None, "via": None, "schedule_digest": None, "hand_over_at": None, "bundle": None}


def instant(value: str) -> datetime:
    """Return the instant that a store's text stands for."""
    return INSTANTS[value]


# --- states


def test_states_have_the_stored_names() -> None:
    """Stores write these names of the states to their tables, so the names never change."""
    names = ["pending", "leased", "cancelling", "delivered", "cancelled", "superseded", "handed_over", "dead"]
    assert names == [state.value for state in PageState]


@pytest.mark.parametrize(
    ("state", "cancelled"),
    [
        (PageState.PENDING, PageState.CANCELLED),
        (PageState.LEASED, PageState.CANCELLING),
        (PageState.CANCELLING, None),
        (PageState.DELIVERED, None),
        (PageState.CANCELLED, None),
        (PageState.SUPERSEDED, None),
        (PageState.HANDED_OVER, None),
        (PageState.DEAD, None),
    ],
)
def test_only_pending_and_leased_pages_are_cancelled(state: PageState, cancelled: PageState | None) -> None:
    """A store cancels a pending page at once, lets a leased page finish, and leaves all others unchanged."""
    assert cancelled is CANCELS.get(state)


# --- rows


def test_row_becomes_a_page() -> None:
    """``from_row`` reads a state's name, the store's instants, and ``tried_for`` in microseconds."""
    assert RECORD == PageRecord.from_row(ROW, instant)


def test_row_of_an_untried_page() -> None:
    """``from_row`` accepts an empty target, zeros and a missing reason, as an unroutable page has them."""
    found = PageRecord.from_row(
        (7, "k", 2, 3, "", "d", "pending", "created", "due", 0, 0, 0, None, None, None, 2, None, None), instant
    )
    blank: dict[str, Any] = {"target": "", "state": PageState.PENDING, "fence": 0, "attempts": 0, **UNSAID}
    assert attrs.evolve(RECORD, tried_for=timedelta(), **blank) == found


@pytest.mark.parametrize("state", PageState)
def test_row_in_each_state(state: PageState) -> None:
    """``from_row`` reads each state back from the name that the store wrote."""
    assert state is PageRecord.from_row((*ROW[:6], state.value, *ROW[7:]), instant).state


@pytest.mark.parametrize("state", ["lost", "LEASED", "", None])
def test_row_in_an_unknown_state_is_refused(state: str | None) -> None:
    """``from_row`` refuses a state that this version does not know."""
    with pytest.raises(ValueError, match=f"^{state!r} is not a valid PageState$"):
        PageRecord.from_row((*ROW[:6], state, *ROW[7:]), instant)


@pytest.mark.parametrize("row", [ROW[:-1], (*ROW, "more"), ()])
def test_row_of_another_length_is_refused(row: tuple[Any, ...]) -> None:
    """``from_row`` refuses a row with fewer or more values than a page has fields."""
    assert len(attrs.fields(PageRecord)) == len(ROW)
    with pytest.raises(ValueError, match="values to unpack"):
        PageRecord.from_row(row, instant)


# --- defaults


def test_new_record_was_never_claimed() -> None:
    """A record without further values has no fence, no attempt, no time and no reason."""
    fields = ("id", "incident_key", "episode", "level", "target", "dedup_key", "state", "created_at", "due_at")
    given: dict[str, Any] = {name: getattr(RECORD, name) for name in fields}
    new = PageRecord(**given)
    assert attrs.evolve(RECORD, fence=0, attempts=0, tried_for=timedelta(), priority=5, **UNSAID) == new


def test_new_page_can_be_sent() -> None:
    """A new page has no undeliverable_reason unless its maker gives one."""
    new = NewPage(incident_key="k", episode=1, level=1, target="ops", dedup_key="d")
    assert None is new.undeliverable_reason


def test_page_is_the_first_attempt() -> None:
    """A notifier gets a page as attempt 1 unless the engine gives another number."""
    assert 1 == Page(incident=incident(), episode=1, level=1, target="ops", dedup_key="d", at=START).attempt


def test_retry_asks_for_no_wait_and_no_throttle() -> None:
    """A Retry with a reason alone leaves the wait to the engine, and throttles no target."""
    assert Retry("down", after=None, throttled=False) == Retry("down")
    assert (MINUTE, True) == ((busy := Retry("busy", MINUTE, throttled=True)).after, busy.throttled)


def test_outcomes_compare_by_kind_and_value() -> None:
    """Two outcomes are equal if they have the same kind and the same values."""
    assert Delivered() == Delivered()
    assert Rejected("gone") == Rejected("gone")
    assert Rejected("gone") != Rejected("lost")
    kinds: list[object] = [Delivered(), Retry("gone"), Rejected("gone")]
    assert 3 == len(set(kinds))


def test_page_cannot_be_changed() -> None:
    """No caller can change a record or an outcome in place."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        page().state = PageState.DEAD  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Retry("down").throttled = True  # type: ignore[misc]


def test_what_a_page_carries() -> None:
    """What any channel needs, from the incident as it was when the page was claimed."""
    about = incident(
        key="db", severity=" Critical ", summary="Disk full", first_seen=START - MINUTE, next_due_at=START + MINUTE,
        labels={"team": "ops", "runbook": "https://example.org/r", "dash": "http://d/x", "odd": "https://a b"},
    )  # fmt: skip
    one = Page(incident=about, episode=2, level=3, target="ops", dedup_key="d", at=START)
    assert ("db", "Disk full", "critical") == (one.incident_key, one.title, one.severity)
    assert {"runbook": "https://example.org/r", "dash": "http://d/x"} == one.links
    assert about.labels == one.labels
    assert (MINUTE, START + MINUTE, 1, (), ()) == (
        one.age,
        one.next_due_at,
        one.round,
        one.paged_before,
        one.next_names,
    )
    assert idempotency_key("db", 0, 2) == one.thread_key
    ahead = attrs.evolve(one, incident=attrs.evolve(about, summary=" ", severity=None, first_seen=START + MINUTE))
    assert ("db", "", timedelta()) == (ahead.title, ahead.severity, ahead.age)
    assert None is attrs.evolve(one, incident=attrs.evolve(about, next_due_at=NEEDS_REPLAN)).next_due_at
