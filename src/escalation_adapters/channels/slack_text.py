"""The text of messages to Slack: of a page, and of a bundle of pages."""

from escalation_core import Bundle, Page
from escalation_core.checks import visible

MAX_TEXT_CHARS = 3000
"""Longest message, in characters: Slack's limit for one block, far below its limit for a message.

The caps below add up to less."""
MAX_SUMMARY_CHARS, MAX_KEY_CHARS, MAX_SEVERITY_CHARS = 1200, 600, 60
MAX_LABELS, MAX_LABEL_NAME_CHARS, MAX_LABEL_VALUE_CHARS = 8, 40, 80

MAX_NAMED = 30
"""How many pages of a bundle are named, the worst ones."""
MAX_LINE_CHARS, MAX_LINE_KEY_CHARS = 80, 55
"""Longest line about a page of a bundle, and longest key in it."""
MAX_COUNTED = 10
"""How many severities of a bundle are counted apart."""

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def render_bundle(bundle: Bundle) -> str:
    """Return the message: how many incidents of each severity, the worst 30 by key and summary, and how to list all.

    The text has at most 3,000 characters, escaped as in ``render``.
    """
    counts = list(bundle.severities.items())
    said = [f"{count} {folded(name, 30) or 'unconfigured'}" for name, count in counts[:MAX_COUNTED]]
    if len(counts) > MAX_COUNTED:
        said.append(f"{sum(count for _, count in counts[MAX_COUNTED:])} others")
    lines = [f"{len(bundle.pages)} incidents: {', '.join(said)}", *map(_line, bundle.pages[:MAX_NAMED])]
    if len(bundle.pages) > MAX_NAMED:
        lines.append(f"and {len(bundle.pages) - MAX_NAMED} more")
    return "\n".join([*lines, f"All of them: escalation pages --bundle {bundle.dedup_key}"])


def _line(page: Page) -> str:
    key = escape(page.incident.incident_key, MAX_LINE_KEY_CHARS)
    summary = folded(page.incident.summary or "", MAX_LINE_CHARS - len(key))
    return f"{key}: {summary}" if summary else key


def render(page: Page) -> str:
    """Return the message: summary, key, severity, level and labels, each cut to its cap.

    The text has at most 3,000 characters, escaped. No cut splits an entity, and invisible characters show as escapes.
    """
    incident = page.incident
    episode = f", episode {page.episode}" if page.episode > 1 else ""
    # Keys are compared byte for byte, so their white space stays as it is.
    key = escape(incident.incident_key, MAX_KEY_CHARS)
    severity = folded(incident.severity or "", MAX_SEVERITY_CHARS) or "unconfigured"
    lines = [f"Incident {key}, severity {severity}, level {page.level}{episode}"]
    if summary := folded(incident.summary or "", MAX_SUMMARY_CHARS):
        lines.insert(0, summary)
    if labels := sorted(incident.labels.items()):
        shown = [
            f"{folded(n, MAX_LABEL_NAME_CHARS)}={folded(v, MAX_LABEL_VALUE_CHARS)}" for n, v in labels[:MAX_LABELS]
        ]
        more = [f"and {len(labels) - MAX_LABELS} more"] if len(labels) > MAX_LABELS else []
        lines.append(", ".join([*shown, *more]))
    return "\n".join(lines)


def folded(text: str, most: int) -> str:
    """Return the text with each run of white space as one blank, escaped."""
    return escape(" ".join(text.split()), most)


def escape(text: str, most: int) -> str:
    """Return the text on one line, escaped as Slack asks, with at most ``most`` characters; a cut shows an ellipsis."""
    line = visible(text)
    if len(line) <= most and _ENTITIES.keys().isdisjoint(line):
        return line
    pieces = [_ENTITIES.get(char, char) for char in line[: most + 1]]
    if sum(map(len, pieces)) <= most:
        return "".join(pieces)
    size = 0
    for number, piece in enumerate(pieces):
        size += len(piece)
        if size >= most:
            return "".join(pieces[:number]) + "…"
    raise AssertionError("pieces longer than the cap fill it")
