"""Fallbacks: chains that end, and how long a page has waited without pauses."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import Engine, InvalidValue, PauseSchedule, Settings, SettingsError
from escalation_core.model import Pause
from escalation_core.rules.fallback import Fallbacks, check_fallbacks, waiting_since
from escalation_core.rules.gate import Switches, paused_at
from escalation_core.testing import MemoryStore, RecordingNotifier

from ..kit import page

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def pause(start: float, end: float, *, lifts_schedule: bool = False) -> Pause:
    """Return a pause between two minutes, counted from now."""
    return Pause(starts_at=NOW + start * MINUTE, ends_at=NOW + end * MINUTE, lifts_schedule=lifts_schedule)


@pytest.mark.parametrize(
    ("pauses", "minutes"),
    [
        ([], -3),
        ([pause(-60, -10)], -3),
        ([pause(-30, 0)], -33),
        ([pause(-30, -1)], -32),
        ([pause(-2.5, -1.5)], -4),
        ([pause(-2, -1), pause(-10, -3)], -11),
        ([pause(-10, -1), pause(-5, -2)], -12),
        ([pause(-40, -2.25, lifts_schedule=True)], -3),
    ],
)
def test_operators_pauses_are_left_out(pauses: list[Pause], minutes: float) -> None:
    """Three minutes have passed since then, without the pauses."""
    assert NOW + minutes * MINUTE == waiting_since(NOW, 3 * MINUTE, Switches(), pauses)


def test_scheduled_pauses_are_left_out() -> None:
    """An hour of maintenance each morning, unless an operator lifts it."""
    switches = Switches(schedule=PauseSchedule("0 11 * * *", 59, "Europe/Berlin"))
    after = NOW - 60 * MINUTE
    assert after - 62 * MINUTE == waiting_since(after, 3 * MINUTE, switches, [])
    assert after - 3 * MINUTE == waiting_since(after, 3 * MINUTE, switches, [pause(-180, 0, lifts_schedule=True)])


@given(
    spans=st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 900)), max_size=6),
    waited=st.integers(1, 1500),
)
def test_the_time_without_pauses_is_what_was_asked(spans: list[tuple[int, int]], waited: int) -> None:
    """Counted second by second from the answer on, as many seconds are not paused."""
    pauses = [Pause(starts_at=NOW - (begin + length) * SECOND, ends_at=NOW - begin * SECOND) for begin, length in spans]
    since = waiting_since(NOW, waited * SECOND, Switches(), pauses)
    seconds = [since + number * SECOND for number in range(int((NOW - since) / SECOND))]
    assert waited == sum(paused_at(None, pauses, second) is None for second in seconds)


def test_a_pause_without_an_end_in_sight_is_not_searched_for_ever() -> None:
    """The search ends after two weeks, and counts the page as late."""
    forever = Pause(starts_at=NOW - timedelta(days=300), ends_at=NOW + MINUTE)
    assert timedelta(days=13) < NOW - waiting_since(NOW, MINUTE, Switches(), [forever]) <= timedelta(days=300)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": "a"}, "go round in a circle: 'a' falls back to 'a'; let the chain end at another target"),
        ({"a": "b", "b": "c", "c": "a"}, "go round in a circle: 'a' falls back to 'b' falls back to 'c' falls back to"),
        ({"x": "b", "b": "c", "c": "b"}, "go round in a circle: 'b' falls back to 'c' falls back to 'b'"),
    ],
)
def test_circles_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_fallbacks(given)
    assert f"fallbacks: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": "a"}', "go round in a circle"),
        ('{"a": ""}', "the fallback of 'a' is not a valid target name; give 1 to 200 printable characters"),
        ('{"a": null}', "the fallback of 'a' is NoneType"),
        ('{"a": "https://example.org/secret"}', "the fallback of 'a' has a URL where a name belongs"),
        ('["a"]', "is not a valid JSON object; write for example"),
        ("a", "is not"),
    ],
)
def test_bad_fallbacks_are_refused(text: str, said: str) -> None:
    """The message names the target and the remedy, and shows no URL."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"ESC_FALLBACKS": text})
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_fallbacks_must_be_defined() -> None:
    """With targets in the settings both names must be among them; with notifiers, both must be served."""
    with pytest.raises(SettingsError, match=r"names the target 'b'; define it in ESC_TARGETS"):
        Settings(targets={"a": "https://example.org/"}, fallbacks={"a": "b"})
    settings = Settings(fallbacks={"a": "b"})
    with pytest.raises(InvalidValue, match=r"^fallbacks: name the target 'b', which no notifier serves; give"):
        Engine(MemoryStore(), settings=settings, notifiers=[RecordingNotifier("a")])
    with pytest.raises(InvalidValue, match=r"^fallbacks: name the target 'a'"):
        Engine(MemoryStore(), settings=settings, notifiers=[RecordingNotifier("b")])
    Engine(MemoryStore(), settings=settings)


def test_the_fallbacks_page_is_the_same_page() -> None:
    """It has the key, the step and the priority of the other, and its own fallback."""
    late = page(target="a", priority=1)
    chain = Fallbacks({"a": "b", "b": "c"}, MINUTE)
    new = chain.page_for(late)
    same = ("incident_key", "episode", "level", "dedup_key", "priority")
    assert [getattr(late, name) for name in same] == [getattr(new, name) for name in same]
    assert ("b", MINUTE) == (new.target, new.hand_over_after)
    assert Fallbacks({"a": "b"}).page_for(late).hand_over_after is None
