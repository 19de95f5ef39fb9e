"""The part of health about policies: a warning for each fault, and its JSON."""

import pytest

from escalation_core.engine.loaded import ScheduleHealth
from escalation_core.engine.policies_health import PoliciesHealth
from escalation_core.model import WalkStats

from ..kit import START

UNKNOWN = (
    "which an engine did not know: they escalate by another policy; add it to the policies file, or correct the rows"
)
LOADED = "the policies file could not be loaded"
GIVE = "give this process their file, or run escalation policy reload"
DIFFERENT = "the workers run different policies files"


@pytest.mark.parametrize(
    ("health", "warnings"),
    [
        (PoliciesHealth(), []),
        (PoliciesHealth(digest="d", stats=WalkStats(worker_digests={"d": 3})), []),
        (
            PoliciesHealth(digest="d", fault="it is empty"),
            [f"{LOADED}, and the one before stays in force: it is empty"],
        ),
        (
            PoliciesHealth(stats=WalkStats(worker_digests={"a" * 64: 2})),
            [f"this process has no policies file, but of the workers 2 run aaaaaaaaaaaa; {GIVE}"],
        ),
        (
            PoliciesHealth(digest="b" * 64, stats=WalkStats(worker_digests={"a" * 64: 1})),
            [f"this process has policies file bbbbbbbbbbbb, but of the workers 1 run aaaaaaaaaaaa; {GIVE}"],
        ),
        (
            PoliciesHealth(fault="it is empty", stats=WalkStats(worker_digests={"a" * 64: 2})),
            [f"{LOADED}, and this process works without it: it is empty"],
        ),
        (
            PoliciesHealth(stats=WalkStats(unknown_policies={"opps": 2, "calm\n": 1})),
            [f"2 open incidents name policy 'opps', {UNKNOWN}", f"1 open incidents name policy 'calm\\n', {UNKNOWN}"],
        ),
        (
            PoliciesHealth(stats=WalkStats(lately={"lost_version": 3, "ack_expired": 9})),
            [
                (
                    "3 incidents of the last day had a version of their policy that the store has lost: they escalate"
                    " by the file's; look at them with escalation policy show"
                )
            ],
        ),
        (
            PoliciesHealth(stats=WalkStats(worker_digests={"a" * 64: 2, "": 1})),
            [f"{DIFFERENT}: 2 run aaaaaaaaaaaa, 1 run none; restart them, or run escalation policy reload"],
        ),
    ],
)
def test_warnings(health: PoliciesHealth, warnings: list[str]) -> None:
    """Each fault that may page late has a warning, and a good state has none."""
    assert warnings == list(health.warnings())


def test_json() -> None:
    """The JSON has each count."""
    stats = WalkStats(
        unknown_policies={"opps": 1},
        put_off=2,
        lately={"rebind": 3},
        worker_digests={"d": 4},
        nobody_on_call=5,
        reload_requested_at=START,
    )
    assert {
        "digest": "d",
        "fault": "f",
        "unknown": {"opps": 1},
        "putOff": 2,
        "lately": {"rebind": 3},
        "nobodyOnCall": 5,
        "schedules": {"rota": {"ageSeconds": 6.1, "horizon": "2025-01-01T00:00:00+00:00"}},
        "scheduleFaults": ["Calendar: it raised OSError"],
        "workers": {"d": 4},
        "reloadRequestedAt": "2025-01-01T00:00:00+00:00",
    } == PoliciesHealth(
        digest="d",
        fault="f",
        stats=stats,
        schedules={"rota": ScheduleHealth(age=6.09, horizon=START, ends_soon=True)},
        schedule_faults=["Calendar: it raised OSError"],
    ).as_dict()
    assert None is PoliciesHealth().as_dict()["reloadRequestedAt"]


def test_who_is_on_call() -> None:
    """Escalations that named no one, sources that fail, and schedules that end soon are each a warning."""
    said = PoliciesHealth(
        stats=WalkStats(nobody_on_call=2),
        schedules={
            "short": ScheduleHealth(age=1, horizon=START, ends_soon=True),
            "long": ScheduleHealth(age=1, horizon=START, ends_soon=False),
            "bare": ScheduleHealth(age=1, horizon=START, ends_soon=False, runs_out=START),
        },
        schedule_faults=["Calendar: it raised OSError"],
    ).warnings()
    gaps = (
        "2 escalations of the last day had levels for which no one was on call, and paged the default target:"
        " escalation audit names them, and escalation oncall gaps the gaps ahead"
    )
    assert [
        gaps,
        "schedules could not be loaded; what was loaded before stays: Calendar: it raised OSError",
        "schedule 'short' ends at 2025-01-01T00:00:00+00:00: from then on it is not known who is on call",
        "schedule 'bare' has no shift after 2025-01-01T00:00:00+00:00: from then on no one is on call; add shifts",
    ] == said
