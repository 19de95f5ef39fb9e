"""Events of PagerDuty's Events API v2, as bytes of JSON. Pure functions.

PagerDuty's documentation of fields and limits:
https://github.com/PagerDuty/developer-docs/blob/main/docs/events-API-v2/02-Trigger-Events.md.
The caps below add up to less than the limit of an event, so no event is refused for its size.
"""

from collections.abc import Mapping, Sequence
from json import dumps
from typing import Any

from escalation_core import Notice, NoticeKind, Page

from .cut import cut, folded, not_blank
from .http import parse

MAX_EVENT_BYTES = 512_000
"""PagerDuty's limit of an event, "512 KB"."""
MAX_SUMMARY_CHARS = 1024
"""PagerDuty's limit of a summary. It refuses the event of a longer one."""
MAX_SOURCE_CHARS, MAX_FIELD_CHARS, MAX_NAME_CHARS = 512, 255, 200
MAX_LABELS, MAX_LABEL_NAME_CHARS, MAX_LABEL_VALUE_CHARS = 64, 128, 1024
MAX_LINKS, MAX_LINK_CHARS = 20, 2048
MAX_NAMES = 50
"""How many names of targets an event lists, of those that were paged and of those that are next."""

SEVERITIES: Mapping[str, str] = {name: name for name in ("critical", "error", "warning", "info")}
"""PagerDuty's severities. It refuses any other."""
DEFAULT_SEVERITY = "error"
"""The severity of a page whose incident has none, or one of another name. With the lower ones, a service of PagerDuty
that has dynamic notifications wakes no person."""
ACTIONS: Mapping[NoticeKind, str] = {NoticeKind.ACKNOWLEDGED: "acknowledge", NoticeKind.RESOLVED: "resolve"}
"""The actions of notices. PagerDuty has none for an acknowledgement that expired."""
FIELD_LABELS = ("component", "group", "class")
"""The fields of a payload that labels of the same name fill."""


def trigger(page: Page, routing_key: str, severities: Mapping[str, str]) -> bytes:
    """Return the event that opens the alert of the page's episode, or adds to it if it is open.

    ``severities`` maps the host's severities to PagerDuty's, beside PagerDuty's own names.
    """
    labels = page.labels
    payload = {
        "summary": _summary(page),
        "source": not_blank(page.incident_key, MAX_SOURCE_CHARS),
        "severity": severities.get(page.severity) or SEVERITIES.get(page.severity, DEFAULT_SEVERITY),
        "timestamp": page.at.isoformat(timespec="milliseconds"),
        **{name: folded(labels[name], MAX_FIELD_CHARS) for name in FIELD_LABELS if labels.get(name, "").strip()},
        "custom_details": _details(page),
    }
    event = {**_event(routing_key, "trigger", page.thread_key), "client": "escalation-core", "payload": payload}
    if links := _links(page.links):
        event["links"] = links
    return _encoded(event)


def follow_up(notice: Notice, routing_key: str) -> bytes:
    """Return the event that acknowledges or resolves the alert of the notice's episode."""
    return _encoded(_event(routing_key, ACTIONS[notice.kind], notice.thread_key))


def _event(routing_key: str, action: str, dedup_key: str) -> dict[str, Any]:
    return {"routing_key": routing_key, "event_action": action, "dedup_key": dedup_key}


def _encoded(event: Mapping[str, Any]) -> bytes:
    return dumps(event, ensure_ascii=False).encode()


def _summary(page: Page) -> str:
    """Return the title, and where the episode stands. The title is cut so that the rest fits."""
    stands = [f"level {page.level}"]
    if page.round not in (1, page.level):  # in a policy of one level each level is a round
        stands.append(f"round {page.round}")
    if page.episode > 1:
        stands.append(f"episode {page.episode}")
    end = f" ({', '.join(stands)})"
    title = page.title if page.title.strip() else repr(page.title)
    return folded(title, MAX_SUMMARY_CHARS - len(end)) + end


def _details(page: Page) -> dict[str, Any]:
    """Return what a responder may want to know beside the summary."""
    incident, labels = page.incident, sorted(page.labels.items())
    shown = labels[:MAX_LABELS]
    details: dict[str, Any] = {
        "incident_key": not_blank(incident.incident_key, MAX_SOURCE_CHARS),
        "severity": cut(incident.severity or "", MAX_FIELD_CHARS) or "unconfigured",
        "level": page.level,
        "round": page.round,
        "episode": page.episode,
        "first_seen": incident.first_seen.isoformat(timespec="seconds"),
        "paged_before": _names(page.paged_before),
        "next": _names(page.next_names),
        "next_due_at": None if page.next_due_at is None else page.next_due_at.isoformat(timespec="seconds"),
        "labels": {cut(name, MAX_LABEL_NAME_CHARS): cut(text, MAX_LABEL_VALUE_CHARS) for name, text in shown},
        "dedup_key": page.dedup_key,
    }
    if len(labels) > len(details["labels"]):
        details["labels_left_out"] = len(labels) - len(details["labels"])
    return details


def _names(names: Sequence[str]) -> list[str]:
    found = [cut(name, MAX_NAME_CHARS) for name in names[:MAX_NAMES]]
    return found if len(names) <= MAX_NAMES else [*found, f"and {len(names) - MAX_NAMES} more"]


def _links(links: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the links whose URL has a host. PagerDuty takes http as well as https."""
    found = [(name, parse(url, allow_http=True)) for name, url in sorted(links.items())]
    whole = [(name, str(url)) for name, url in found if url is not None]
    fitting = [(name, url) for name, url in whole if len(url) <= MAX_LINK_CHARS]
    return [{"href": url, "text": not_blank(name, MAX_LABEL_NAME_CHARS)} for name, url in fitting[:MAX_LINKS]]
