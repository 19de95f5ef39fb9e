"""Single sentences of the rules of policies, each by figures worked out by hand."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .ladder import Settings, next_due, read_ladder
from .night import Night
from .records import EPOCH, Row
from .test_night import EVENING, FILE, MINUTE, OFFICE, OPS, after, file, notes, opened, pages, ticks


def due(policy: Mapping[str, Any], **columns: Any) -> float | None:
    """Return the minute at which a row with these columns is due by a policy."""
    row = Row("critical", EVENING, **columns)
    found = next_due(row, read_ladder("ops", policy, {"office": OFFICE}), after(600), MINUTE)
    return None if found is None else (found - EVENING) / MINUTE


def test_spacing() -> None:
    """The tick interval, min_gap and the snooze each hold an escalation back."""
    levels = [{"after": "0m"}, {"after": "0m"}, {"after": "4m"}]
    one = {"level": 1, "last_escalated_at": after(3)}
    assert due({"levels": levels}, **one) == 4
    assert due({"levels": levels, "min_gap": "7m"}, **one) == 10
    assert due({"levels": levels, "anchor": "first_seen"}, **one) == 7
    assert due({"levels": levels, "min_gap": "7m"}, **one, snoozed_until=after(30)) == 30


def test_gaps_that_add_up() -> None:
    """With anchor first_seen a walk that began later pages at most a gap after the last page."""
    policy = {"levels": [{"after": "10m"}, {"after": "20m"}], "anchor": "first_seen"}
    assert due(policy, level=1, last_escalated_at=after(12)) == 30
    walk = {"policy_since": after(100), "policy_level": 3}
    assert due(policy, level=4, last_escalated_at=after(105), **walk) == 125
    assert due(policy, level=4, last_escalated_at=after(115), **walk) == 130
    assert due(policy, level=3, last_escalated_at=after(50), **walk) == 110


def test_an_escalation_of_the_future() -> None:
    """An escalation that lies in the future counts as now."""
    assert due({"levels": [{"after": "0m"}, {"after": "4m"}]}, level=1, last_escalated_at=after(9999)) == 604


def test_a_new_file_expires_no_old_acknowledgement() -> None:
    """An acknowledgement from before the policy's text was stored counts from the storing."""
    night = Night()
    night.open(EVENING)
    night.acknowledge(after(1))
    night.file(after(100), FILE)
    night.tick(after(100))
    assert night.snapshot()["next_due_at"] == after(130)
    night.tick(after(130))
    assert (notes(night), pages(night)) == (["ack_expired"], [(130, 1, 1)])


def test_a_late_tick_restarts_from_the_expiry() -> None:
    """A restarted walk counts from the instant of the expiry, however late the tick is."""
    night = opened(file(ops=OPS | {"on_ack_expiry": "restart"}))
    night.acknowledge(after(1))
    night.tick(after(99))
    assert night.snapshot()["policy_since"] == after(31)


def test_a_return_to_a_shorter_walk() -> None:
    """A return to a policy that has become shorter than its position finds the walk over, and no more than that."""
    night = opened(FILE | {"assign": [{"policy": "ops"}, {"severity": "low", "policy": "daytime"}]})
    ticks(night, 0, 10)
    night.change_severity(after(11), "low")
    night.file(after(11), file(ops={"levels": [{"after": "5m"}]}))
    night.change_severity(after(12), "critical")
    row = night.snapshot()
    assert (row["level"], row["policy_level"], row["next_due_at"], notes(night)) == (2, 1, None, ["exhausted"])


def test_the_same_name_again() -> None:
    """A severity whose policy has the same name keeps the version, though the file has another."""
    night = opened()
    digest = night.snapshot()["policy_pin"].split("@")[1]
    night.file(after(1), file(ops={"levels": [{"after": "5m"}]}))
    night.change_severity(after(1), " Very " + "long" * 20)
    assert night.snapshot()["policy_pin"] == f"ops@{digest}@{('very ' + 'long' * 20)[:60]}"


def test_the_choice_of_a_policy() -> None:
    """The last rule that matches wins; then the policy ``default``; then the built-in one. A host's word is first."""
    policies: dict[str, Any] = {"default": OPS, "db": OPS, "day": OPS}
    rules = [{"severity": "CRITICAL ", "policy": "day"}, {"labels": {"team": "db"}, "policy": "db"}]

    def chosen(policies: Mapping[str, Any], **given: Any) -> str:
        night = Night(file={"policies": policies, "assign": rules})
        night.open(EVENING, **given)
        return str(night.snapshot()["policy_pin"].split("@")[0])

    assert chosen(policies, severity="critical", labels={"team": "web"}) == "day"
    assert chosen(policies, severity="critical", labels={"team": "db"}) == "db"
    assert chosen(policies, severity="low") == "default"
    assert chosen({"db": OPS, "day": OPS}, severity="low") == "builtin"
    assert chosen(policies, severity="critical", policy="builtin") == "builtin"


def test_an_exhausted_built_in_ladder() -> None:
    """Only ladders of named policies restart; a row that rose before the file is pinned as it stands."""
    night = Night(Settings(max_level=1))
    night.open(EVENING, severity="critical")
    ticks(night, 0, 5)
    night.file(after(6), FILE)
    night.tick(after(6))
    assert night.snapshot()["policy_pin"] == "builtin@@critical"
    night.acknowledge(after(7))
    night.unacknowledge(after(8))
    assert (night.snapshot()["episode"], night.snapshot()["next_due_at"]) == (1, None)


def test_a_level_whose_hours_are_over() -> None:
    """A level that was due in its hours is not recorded outside of them, after an outage."""
    night = opened(severity="sev3", at=datetime(2026, 3, 2, 15, 55, tzinfo=UTC))
    night.tick(datetime(2026, 3, 2, 16, 0, tzinfo=UTC))
    assert night.snapshot()["next_due_at"] == datetime(2026, 3, 3, 8, tzinfo=UTC)
    assert (pages(night), notes(night)) == ([], ["put off"])


def test_a_drain_to_before_the_walk() -> None:
    """A level below that at which the walk began moves the beginning of the walk, by verb and by SQL."""
    for verb in (True, False):
        night = opened()
        ticks(night, 0, 10)
        night.file(after(11), FILE)
        night.rebind(after(11), restart=True)
        assert night.snapshot()["policy_level"] == 2
        if verb:
            night.drain(after(12))
        else:
            night.host_write(after(12), level=1)
        row = night.snapshot()
        assert (row["level"], row["policy_level"], row["episode"]) == (1, 1, 3)


def test_what_a_lowered_level_cancels() -> None:
    """A level that SQL lowers begins an episode, and cancels the pages of the old one."""
    night = opened()
    night.tick(EVENING)
    night.host_write(after(1), level=0)
    row = night.snapshot()
    assert (row["episode"], row["next_due_at"], len(night.planner.cancelled)) == (2, EPOCH, 1)


def test_acknowledged_by_sql() -> None:
    """A row that SQL leaves acknowledged is looked at again if it has a pin, awaited a planning, or is new."""
    plain = Night()
    plain.open(EVENING)
    plain.host_write(after(1), acknowledged_at=after(1))
    assert plain.snapshot()["next_due_at"] is None
    waiting = Night()
    waiting.host_write(EVENING, severity="critical")
    waiting.host_write(after(1), acknowledged_at=after(1))
    assert waiting.snapshot()["next_due_at"] == EPOCH
    fresh = Night()
    fresh.host_write(EVENING, acknowledged_at=EVENING)
    assert fresh.snapshot()["next_due_at"] == EPOCH
    again = Night()
    again.open(EVENING)
    again.resolve(after(1))
    again.host_write(after(2), resolved_at=None, acknowledged_at=after(2))
    assert (again.snapshot()["next_due_at"], again.snapshot()["episode"]) == (EPOCH, 2)


def test_a_lost_text() -> None:
    """A version that is lost is replaced by the file's, at the same position; without a file the row waits for one."""
    night = opened()
    night.tick(EVENING)
    pin = night.snapshot()["policy_pin"]
    night.lose_texts(after(1))
    night.file(after(1), None)
    night.tick(after(1))
    assert (night.snapshot()["policy_pin"], night.snapshot()["next_due_at"]) == (pin, EPOCH)
    night.file(after(2), FILE)
    night.tick(after(2))
    assert (night.snapshot()["policy_pin"], night.snapshot()["next_due_at"]) == (pin, after(10))
    night.lose_texts(after(3))
    night.file(after(3), file(other=OPS))
    night.tick(after(3))
    assert night.snapshot()["policy_pin"] == "builtin@@critical"
