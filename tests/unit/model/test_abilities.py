"""What notifiers declare: the abilities, and the methods that they need."""

from typing import Any

import pytest

from escalation_core import Abilities, Budget, Engine, InvalidValue, NoticeKind
from escalation_core.model import EVERY_KIND
from escalation_core.testing import BundlingNotifier, MemoryStore, RecordingNotifier, TellingNotifier

RESOLVED = frozenset({NoticeKind.RESOLVED})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bundles": 1}, "bundles: is 1; give True or False"),
        ({"threads": "yes"}, "threads: is 'yes'; give True or False"),
        ({"notices": ["resolved"]}, "notices: is ['resolved']; give a set of NoticeKind"),
        ({"notices": frozenset({"resolved"})}, "notices: is frozenset({'resolved'}); give a set of NoticeKind"),
        ({"threads": True}, "threads: is True without resolved in notices; add it to notices"),
        (
            {"threads": True, "notices": frozenset({NoticeKind.ACKNOWLEDGED})},
            "threads: is True without resolved in notices; add it to notices",
        ),
        ({"asked": RESOLVED}, "asked: has resolved, which is not in notices; add it to notices"),
        ({"budgets": {"a": 7}}, "budgets: 'a' has int; give Budget(rate=..., burst=...)"),
        ({"budgets": 7}, "budgets: is int; map targets to Budget"),
    ],
)
def test_bad_abilities_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Abilities(**fields)
    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("abilities", "method"),
    [
        (Abilities(bundles=True), "send_bundle"),
        (Abilities(notices=RESOLVED), "tell"),
    ],
)
def test_an_ability_needs_its_method(abilities: Abilities, method: str) -> None:
    """An engine refuses a notifier that declares what it cannot do."""
    notifier = RecordingNotifier("ops")
    notifier.abilities = abilities  # type: ignore[attr-defined]
    with pytest.raises(InvalidValue, match=f"RecordingNotifier declares an ability and lacks its method {method};"):
        Engine(MemoryStore(), notifiers=[notifier])


def test_bundled_notices_need_their_method() -> None:
    notifier = BundlingNotifier("ops")
    notifier.abilities = Abilities(bundles=True, notices=EVERY_KIND)
    with pytest.raises(InvalidValue, match="lacks its method tell;"):
        Engine(MemoryStore(), notifiers=[notifier])

    class Telling(BundlingNotifier, TellingNotifier):
        """Tells single notices."""

    telling = Telling("ops")
    telling.abilities = Abilities(bundles=True, notices=EVERY_KIND)
    with pytest.raises(InvalidValue, match="lacks its method tell_bundle;"):
        Engine(MemoryStore(), notifiers=[telling])


def test_other_abilities_are_refused() -> None:
    notifier = RecordingNotifier("ops")
    notifier.abilities = {"bundles": True}  # type: ignore[attr-defined]
    with pytest.raises(InvalidValue, match="the abilities of RecordingNotifier are dict; give Abilities"):
        Engine(MemoryStore(), notifiers=[notifier])


def test_abilities_that_raise_are_refused() -> None:
    """The message has the error's class and place, and no text, which may be a secret. The cause has the rest."""

    class Raises(RecordingNotifier):
        @property
        def abilities(self) -> Abilities:
            raise RuntimeError("hush")

    said = r"reading the abilities of Raises raised RuntimeError, .*test_abilities\.py:\d+; repair"
    with pytest.raises(InvalidValue, match=said) as caught:
        Engine(MemoryStore(), notifiers=[Raises("ops")])
    assert "hush" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_notices_leave_half_of_a_burst_to_pages() -> None:
    """None of a burst of one."""
    assert [0, 1, 1, 15] == [Budget(rate=1, burst=burst).spare for burst in (1, 2, 3, 30)]
