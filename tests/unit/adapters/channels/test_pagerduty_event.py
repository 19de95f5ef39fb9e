"""The events that PagerDuty gets of pages and notices."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.channels.pagerduty_event import (
    MAX_EVENT_BYTES,
    MAX_LABELS,
    MAX_LINKS,
    MAX_NAMES,
    follow_up,
    trigger,
)
from escalation_core import Notice, NoticeKind, Page, idempotency_key

from ....pagerduty_server import KEY, faults
from .slack_page import DEDUP, INSTANT, page


def event(one: Page, severities: Mapping[str, str] | None = None) -> Any:
    """Return the event of a page, which is valid."""
    body = trigger(one, KEY, severities or {})
    found = json.loads(body)
    assert [] == list(faults(found, {KEY}))
    assert len(body) <= MAX_EVENT_BYTES
    return found


def test_event_shows_what_one_must_know() -> None:
    """The alert belongs to the episode; its summary has title and level, and its details the rest."""
    full = page(summary="Disk nearly full", labels={"team": "ops", "runbook": "https://wiki.example.org/disk"})
    due = INSTANT + timedelta(minutes=30)
    incident = attrs.evolve(full.incident, next_due_at=due)
    full = attrs.evolve(full, incident=incident, level=5, round=2, episode=3)
    full = attrs.evolve(full, paged_before=("slack:ops",), next_names=("oncall:lead",))
    assert {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": idempotency_key("db-7/disk", 0, 3),
        "client": "escalation-core",
        "payload": {
            "summary": "Disk nearly full (level 5, round 2, episode 3)",
            "source": "db-7/disk",
            "severity": "critical",
            "timestamp": "2025-01-01T00:00:00.000+00:00",
            "custom_details": {
                "incident_key": "db-7/disk",
                "severity": "critical",
                "level": 5,
                "round": 2,
                "episode": 3,
                "first_seen": "2025-01-01T00:00:00+00:00",
                "paged_before": ["slack:ops"],
                "next": ["oncall:lead"],
                "next_due_at": "2025-01-01T00:30:00+00:00",
                "labels": {"runbook": "https://wiki.example.org/disk", "team": "ops"},
                "dedup_key": DEDUP,
            },
        },
        "links": [{"href": "https://wiki.example.org/disk", "text": "runbook"}],
    } == event(full)


def test_event_without_summary_severity_and_labels() -> None:
    """The key stands for a missing summary, and the event has neither links nor empty fields."""
    found = event(page(severity=None))
    assert ("db-7/disk (level 2)", "error") == (found["payload"]["summary"], found["payload"]["severity"])
    assert "links" not in found
    assert "unconfigured" == found["payload"]["custom_details"]["severity"]


@pytest.mark.parametrize(
    ("severity", "sent"),
    [
        ("critical", "critical"),
        (" Critical ", "critical"),
        ("error", "error"),
        ("WARNING", "warning"),
        ("info", "info"),
        ("sev1", "critical"),
        ("SEV1", "critical"),
        ("low", "error"),
        ("", "error"),
        (None, "error"),
    ],
)
def test_severity(severity: str | None, sent: str) -> None:
    """PagerDuty's own names stay, the host's are mapped, and any other counts as error."""
    assert sent == event(page(severity=severity), {"sev1": "critical"})["payload"]["severity"]


def test_a_severity_can_be_mapped_to_another() -> None:
    """The host's mapping wins over PagerDuty's names."""
    assert "info" == event(page(severity="warning"), {"warning": "info"})["payload"]["severity"]


def test_labels_fill_fields_of_the_same_name() -> None:
    """Labels component, group and class are PagerDuty's fields. Blank ones are left out."""
    payload = event(page(labels={"component": "mysql\n", "group": " ", "class": "disk"}))["payload"]
    assert ("mysql", "disk", False) == (payload["component"], payload["class"], "group" in payload)


@pytest.mark.parametrize("summary", ["x" * 5000, "\U0001f4df" * 2000, "&\n" * 3000, "\u202e" * 2000])
def test_a_long_summary_is_cut_before_the_level(summary: str) -> None:
    """PagerDuty's limit cuts the title; the level stays."""
    shown = event(page(summary=summary))["payload"]["summary"]
    assert shown.endswith("… (level 2)")
    assert 1000 < len(shown.encode("utf-16-le")) // 2 <= 1024


def test_what_is_left_out_is_counted() -> None:
    """Of many labels, links and names the event has the first, and says how many are not there."""
    labels = {f"l{number:03}": f"https://x.example/{number}" for number in range(100)}
    crowd = attrs.evolve(page(labels=labels), paged_before=[f"t{number}" for number in range(60)])
    found = event(crowd)
    details = found["payload"]["custom_details"]
    assert (MAX_LABELS, 100 - MAX_LABELS) == (len(details["labels"]), details["labels_left_out"])
    assert MAX_LINKS == len(found["links"])
    assert (MAX_NAMES + 1, "and 10 more") == (len(details["paged_before"]), details["paged_before"][-1])


@pytest.mark.parametrize("url", ["https://", "https://[::1", "https://:80/", f"https://x.example/{'a' * 3000}"])
def test_links_that_pagerduty_may_refuse_are_labels_alone(url: str) -> None:
    """A label that is no whole URL, or a long one, is not a link. It must not cost the page."""
    found = event(page(labels={"a": url, "b": "http://wiki.example.org/ü?q=1"}))
    assert [{"href": "http://wiki.example.org/%C3%BC?q=1", "text": "b"}] == found["links"]
    assert {"a", "b"} == set(found["payload"]["custom_details"]["labels"])


NASTY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    [
        "\U0001f4df" * 3000,
        "\u202e" * 70_000,
        '\\"' * 3000,
        " ",
        "\u3000",
        "\n",
        "https://",
        "http://[",
        "https://é.example/x",
    ]
)
KEYS = NASTY.map(lambda text: text[:128]).filter(lambda text: text.isprintable() and text)


@given(
    key=KEYS,
    severity=st.none() | NASTY,
    summary=st.none() | NASTY,
    labels=st.dictionaries(NASTY | st.sampled_from(["component", "group", "class"]), NASTY, max_size=8)
    | st.just({f"{number}{'é' * 500}": "\u3042" * 5000 for number in range(200)}),
    names=st.lists(NASTY, max_size=3) | st.just(["\u3042" * 300] * 400),
    level=st.integers(1, 2**31),
)
def test_any_incident_has_an_event_that_is_valid(
    key: str, severity: str | None, summary: str | None, labels: dict[str, str], names: list[str], level: int
) -> None:
    """For any text of a host the event keeps PagerDuty's rules and limits."""
    clean = {name.replace("\0", ""): text.replace("\0", "") for name, text in labels.items()}
    one = page(
        incident_key=key,
        severity=severity and severity.replace("\0", ""),
        summary=summary and summary.replace("\0", ""),
        labels=clean,
    )
    event(attrs.evolve(one, level=level, episode=level, round=level, paged_before=names, next_names=names))


@pytest.mark.parametrize(
    ("kind", "action"), [(NoticeKind.ACKNOWLEDGED, "acknowledge"), (NoticeKind.RESOLVED, "resolve")]
)
def test_notice(kind: NoticeKind, action: str) -> None:
    """A notice acts on the alert of its episode, whichever episode the incident is in now."""
    notice = Notice(
        kind=kind, incident_key="db-7/disk", episode=2, level=3, at=INSTANT, target="t", dedup_key="n" * 64,
    )  # fmt: skip
    found = json.loads(follow_up(notice, KEY))
    assert {"routing_key": KEY, "event_action": action, "dedup_key": idempotency_key("db-7/disk", 0, 2)} == found
    assert [] == list(faults(found, {KEY}))
