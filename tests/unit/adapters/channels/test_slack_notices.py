"""The text of Slack's messages with notices: what happened, by whom, after how long; bounded and escaped."""

from datetime import timedelta
from typing import Any

import attrs
import pytest

from escalation_adapters.channels.slack_notices import in_words, render_notice, render_notices
from escalation_adapters.channels.slack_text import MAX_TEXT_CHARS
from escalation_core import Notice, NoticeBundle, NoticeKind

from ...kit import HOUR, MINUTE, START, incident

KEY = "b" * 64


def notice(**fields: Any) -> Notice:
    values: dict[str, Any] = {
        "kind": NoticeKind.RESOLVED, "incident_key": "db-7/disk", "episode": 1, "level": 2, "at": START,
        "target": "slack:ops", "dedup_key": "d" * 64, "actor": "ann", "lasted": 64 * MINUTE,
        "incident": incident("db-7/disk", summary="Disk full"),
    }  # fmt: skip
    return Notice(**values | fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Resolved by ann after 1 h 4 min"),
        ({"kind": NoticeKind.ACKNOWLEDGED}, "Acknowledged by ann after 1 h 4 min"),
        ({"kind": NoticeKind.ACK_EXPIRED}, "The acknowledgement has expired, which was ann's after 1 h 4 min"),
        ({"actor": None, "lasted": None}, "Resolved"),
        ({"actor": "  "}, "Resolved after 1 h 4 min"),
    ],
)
def test_what_a_notice_says(fields: dict[str, Any], said: str) -> None:
    assert [said, "Incident db-7/disk, level 2", "Disk full"] == render_notice(notice(**fields)).splitlines()


def test_a_later_episode_and_a_deleted_incident() -> None:
    assert "Incident db-7/disk, level 2, episode 3" == render_notice(notice(episode=3, incident=None)).splitlines()[-1]


def test_texts_are_data() -> None:
    """Nothing of a host's text is a mention, a link or a line of its own, and no text is too long."""
    bad = "<!channel> & <https://x|y>\u202e\n" * 500
    long = notice(
        incident_key="k" * 512, actor=bad, incident=incident("k", summary=bad), episode=2**31, level=100,
        lasted=timedelta(days=99_999),
    )  # fmt: skip
    text = render_notice(long)
    assert len(text) <= MAX_TEXT_CHARS
    assert not any(part in text for part in ("<!", "<https", "\u202e"))
    assert 3 == len(text.splitlines())
    many = NoticeBundle(
        target="slack:ops", dedup_key=KEY, notices=[attrs.evolve(long, kind=kind) for kind in NoticeKind] * 333
    )
    text = render_notices(many)
    assert len(text) <= MAX_TEXT_CHARS
    assert not any(part in text for part in ("<!", "<https", "\u202e"))


def test_what_a_message_with_many_says() -> None:
    """How many of each kind, the first 30, and how to list all."""
    told = [
        notice(incident_key=f"k{n}", kind=NoticeKind.ACKNOWLEDGED if n < 2 else NoticeKind.RESOLVED) for n in range(40)
    ]
    first, *lines, more, command = render_notices(NoticeBundle(target="t", dedup_key=KEY, notices=told)).splitlines()
    assert "40 notices: 2 acknowledged, 38 resolved" == first
    assert ("k0: acknowledged by ann", 30) == (lines[0], len(lines))
    assert ("and 10 more", f"All of them: escalation notices --bundle {KEY}") == (more, command)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(), "0 s"),
        (timedelta(milliseconds=999), "0 s"),
        (61 * timedelta(seconds=1), "1 min 1 s"),
        (5 * MINUTE, "5 min"),
        (HOUR + timedelta(seconds=5), "1 h"),
        (49 * HOUR, "2 d 1 h"),
    ],
)
def test_spans_in_words(span: timedelta, words: str) -> None:
    assert words == in_words(span)
