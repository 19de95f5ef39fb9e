"""The table from the status of a reply to the outcome of a page."""

from datetime import timedelta

import pytest

from escalation_adapters.channels.status import Reply, outcome_of
from escalation_core import Delivered, Outcome, Rejected, Retry

SECRET = "T0HUSH"


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([200, 202, 204, 299], Delivered()),
        ([300, 301, 302, 304, 307, 308, 399], Rejected("redirect")),
        ([400, 401, 403, 404, 410, 413, 422, 451, 499], Rejected("HTTP {}")),
        ([408, 425], Retry("HTTP {}", timedelta(seconds=7))),
        ([429], Retry("HTTP {}", timedelta(seconds=7), throttled=True)),
        ([100, 500, 502, 503, 504, 599, 600, 999], Retry("HTTP {}", timedelta(seconds=7))),
    ],
)
def test_each_status_has_its_outcome(statuses: list[int], outcome: Outcome) -> None:
    """The status decides. A reply that asks for a wait gets it; a final outcome has none."""
    for status in statuses:
        found = outcome_of(Reply(status, b"", retry_after="7"), confirmed=True, lacking="a word")
        if isinstance(outcome, Delivered):
            assert outcome == found
        else:
            assert type(outcome) is type(found)
            assert repr(outcome).replace("{}", str(status)) == repr(found)


def test_a_success_needs_the_bodys_word() -> None:
    """A success whose body does not confirm the page is tried again, after the wait that it asks for."""
    found = outcome_of(Reply(200, b"log in", retry_after="3"), confirmed=False, lacking="the receiver's ok")
    assert Retry("HTTP 200 without the receiver's ok", timedelta(seconds=3)) == found


@pytest.mark.parametrize("status", [200, 302, 404, 429, 503])
def test_only_a_refusal_concerns_the_whole_target(status: int) -> None:
    """What the body says of the target counts for a refusal alone."""
    found = outcome_of(Reply(status), confirmed=True, lacking="a word", whole_target=True)
    assert (status == 404) == getattr(found, "whole_target", False)


def test_a_reply_shows_its_status_alone() -> None:
    """A receiver may echo the URL in each part of its reply, so the repr shows none of them."""
    shown = repr(Reply(200, SECRET.encode(), retry_after=SECRET, date=SECRET))
    assert "200" in shown
    assert "HUSH" not in shown
