"""The text of messages to Slack that tell what became of an incident: of one notice, and of many."""

from datetime import timedelta

from escalation_core import Notice, NoticeBundle, NoticeKind

from .slack_text import (
    MAX_KEY_CHARS,
    MAX_LINE_CHARS,
    MAX_LINE_KEY_CHARS,
    MAX_NAMED,
    MAX_SUMMARY_CHARS,
    escape,
    folded,
)

MAX_ACTOR_CHARS = 200
MIN_LINE_ACTOR_CHARS = 8
"""A line about one of many notices names no actor in less."""
_WORDS = {
    NoticeKind.ACKNOWLEDGED: "Acknowledged",
    NoticeKind.RESOLVED: "Resolved",
    NoticeKind.ACK_EXPIRED: "The acknowledgement has expired",
}


def render_notice(notice: Notice) -> str:
    """Return the message: what happened, by whom, after how long, and the incident's summary and key.

    The text has at most 3,000 characters, escaped as that of a page.
    """
    said = _WORDS[notice.kind]
    if notice.actor is not None and (actor := folded(notice.actor, MAX_ACTOR_CHARS)):
        said += f", which was {actor}'s" if notice.kind is NoticeKind.ACK_EXPIRED else f" by {actor}"
    if notice.lasted is not None:
        said += f" after {in_words(notice.lasted)}"
    key = escape(notice.incident_key, MAX_KEY_CHARS)
    episode = f", episode {notice.episode}" if notice.episode > 1 else ""
    lines = [said, f"Incident {key}, level {notice.level}{episode}"]
    summary = "" if notice.incident is None else folded(notice.incident.summary or "", MAX_SUMMARY_CHARS)
    return "\n".join([*lines, summary] if summary else lines)


def render_notices(bundle: NoticeBundle) -> str:
    """Return the message: how many notices of each kind, the first 30 by key, and how to list all.

    The text has at most 3,000 characters, escaped as that of a page.
    """
    kinds = [f"{count} {kind.value.replace('_', ' ')}" for kind, count in bundle.kinds.items()]
    lines = [f"{len(bundle.notices)} notices: {', '.join(kinds)}", *map(_line, bundle.notices[:MAX_NAMED])]
    if len(bundle.notices) > MAX_NAMED:
        lines.append(f"and {len(bundle.notices) - MAX_NAMED} more")
    return "\n".join([*lines, f"All of them: escalation notices --bundle {bundle.dedup_key}"])


def _line(notice: Notice) -> str:
    key = escape(notice.incident_key, MAX_LINE_KEY_CHARS)
    line = f"{key}: {notice.kind.value.replace('_', ' ')}"
    room = MAX_LINE_CHARS - len(line) - len(" by ")
    actor = "" if notice.actor is None or room < MIN_LINE_ACTOR_CHARS else folded(notice.actor, room)
    return f"{line} by {actor}" if actor else line


def in_words(span: timedelta) -> str:
    """Return a span in its two largest units, for example ``1 h 4 min``."""
    seconds = int(span.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
