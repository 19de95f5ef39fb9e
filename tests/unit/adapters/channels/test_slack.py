"""The text of a Slack message: its content, its escapes, and its length."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.channels.slack_text import MAX_LABELS, MAX_TEXT_CHARS, render, render_bundle
from escalation_core import Bundle, Incident, Page
from escalation_core.checks import visible

from ...kit import START
from .slack_page import DEDUP, page


@pytest.mark.parametrize("blank", ["  ", "\xa0", "\u2028", "\u3000"])
def test_two_keys_never_look_alike_by_white_space(blank: str) -> None:
    """The message folds white space of a summary, and shows each white space character of a key."""
    incident = Incident(incident_key=f"a{blank}b", first_seen=START, summary=f"a{blank}b\n")
    summary, key = render(Page(incident=incident, episode=1, level=1, target="t", dedup_key="d", at=START)).splitlines()
    assert "a b" == summary
    assert f"Incident a{visible(blank)}b, severity" in key
    assert "Incident a b, severity" not in key


def test_message_shows_what_one_must_know() -> None:
    """The message shows summary, key, severity, level and labels."""
    shown = render(page(summary="Disk nearly full", labels={"host": "db-7", "region": "eu"}))
    assert "Disk nearly full\nIncident db-7/disk, severity critical, level 2\nhost=db-7, region=eu" == shown


def test_message_without_summary_severity_and_labels() -> None:
    """Without summary, severity and labels, the message has no empty line or gap."""
    assert "Incident db-7/disk, severity unconfigured, level 2" == render(page(severity=None))


def test_later_episode_is_named() -> None:
    """From the second episode on, the message names the episode."""
    later = Page(incident=page().incident, episode=3, level=1, target="slack:ops", dedup_key=DEDUP, at=START)
    assert render(later).endswith("level 1, episode 3")


def test_markup_of_hosts_is_escaped() -> None:
    """A host's summary can neither mention a channel nor forge a link or a second line."""
    assert "&lt;!channel&gt; a &amp; b" == render(page(summary="<!channel>\na & b")).splitlines()[0]


def test_labels_beyond_the_cap_are_counted() -> None:
    """The message shows at most MAX_LABELS labels, and the number of the others."""
    shown = render(page(labels={f"l{number}": "x" for number in range(MAX_LABELS + 4)}))
    assert (MAX_LABELS, True) == (shown.count("=x"), shown.endswith(", and 4 more"))


def test_cut_shows_an_ellipsis() -> None:
    """A summary that was cut ends with an ellipsis."""
    assert render(page(summary="x" * 5000)).splitlines()[0].endswith("xx…")


piece = st.text(st.sampled_from("&<>a \n😀é"), max_size=20)
nasty = st.builds(lambda text, times: text * times, piece, st.sampled_from([1, 2, 30, 300]))
ENTITY = re.compile("&(?!amp;|lt;|gt;)|[<>]")


@given(
    key=st.text(st.sampled_from("&<>a😀"), min_size=1, max_size=128),
    severity=st.none() | nasty,
    summary=st.none() | nasty,
    labels=st.dictionaries(nasty, nasty, max_size=20),
)
def test_text_keeps_its_cap_and_breaks_no_entity(
    key: str, severity: str | None, summary: str | None, labels: dict[str, str]
) -> None:
    """For any host's text, the message has at most 3,000 characters, nothing unescaped and no half entity."""
    shown = render(page(incident_key=key, severity=severity, summary=summary, labels=labels))
    assert MAX_TEXT_CHARS >= len(shown)
    assert ENTITY.search(shown) is None


@given(st.text(st.sampled_from("&<>a"), min_size=1, max_size=200))
def test_escaped_text_reads_as_it_was(summary: str) -> None:
    """The message shows a short summary whole; unescaped, it equals the original."""
    assert summary == html.unescape(render(page(summary=summary))).splitlines()[0]


def test_fullest_message_is_within_the_cap() -> None:
    """With each part at its own cap, the message is still within MAX_TEXT_CHARS."""
    full = page(
        incident_key="&" * 512,
        severity="&" * 4000,
        summary="&" * 4000,
        labels={f"{number}" + "&" * 100: "&" * 4000 for number in range(99)},
    )
    full = Page(incident=full.incident, episode=2**31, level=100, target="slack:ops", dedup_key=DEDUP, at=START)
    assert MAX_TEXT_CHARS >= len(render(full)) > MAX_TEXT_CHARS * 0.9


# --- bundles


def bundle(*summaries: str | None, severity: str = "critical", key: str = "db/{}") -> Bundle:
    pages = [
        page(severity=severity, summary=summary, incident_key=key.format(n)) for n, summary in enumerate(summaries)
    ]
    return Bundle(target="slack:ops", dedup_key="b" * 64, pages=pages)


def test_bundle_names_its_pages() -> None:
    """The message counts the severities, names the pages by key and summary, and says how to list them."""
    mixed = [
        page(severity="Critical", summary="Disk full", incident_key="a"),
        page(severity=None, summary=None, incident_key="b"),
    ]
    shown = render_bundle(
        Bundle(target="t", dedup_key="5f", pages=[*mixed, page(severity="critical ", incident_key="c")])
    )
    assert [
        "3 incidents: 2 critical, 1 unconfigured",
        "a: Disk full",
        "b",
        "c",
        "All of them: escalation pages --bundle 5f",
    ] == shown.splitlines()


def test_bundle_names_the_worst_thirty() -> None:
    """The others are counted."""
    lines = render_bundle(bundle(*["Disk full"] * 1000)).splitlines()
    assert (33, "1000 incidents: 1000 critical", "and 970 more") == (len(lines), lines[0], lines[-2])
    assert ["db/0: Disk full", "db/29: Disk full"] == [lines[1], lines[30]]


@pytest.mark.parametrize("text", ["x" * 1_000_000, "&" * 5000, "\u202e" * 5000, "<!channel>\n" * 500])
def test_bundle_fits_whatever_the_texts_are(text: str) -> None:
    """Long and odd summaries, keys and severities are cut and escaped, each on one line."""
    odd = Bundle(
        target="t",
        dedup_key="b" * 64,
        pages=[page(severity=f"{text[:90]}{n}", summary=text, incident_key=f"{n}&<{'k' * 400}") for n in range(1000)],
    )
    shown = render_bundle(odd)
    assert len(shown) <= MAX_TEXT_CHARS
    assert 33 == len(shown.splitlines())
    assert "<" not in shown
