"""Which incidents are unheard, and until when."""

from datetime import timedelta

import pytest

from escalation_core.model import PageRecord, PageState
from escalation_core.rules.unheard import find_unheard, still_unheard

from ..kit import START, page

OPEN = {"k": 1}


def pages(*states: tuple[int, str], episode: int = 1) -> list[PageRecord]:
    return [
        page(id=number, incident_key="k", episode=episode, level=level, state=PageState(state), due_at=START)
        for number, (level, state) in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (pages((1, "dead")), 1),
        (pages((1, "dead"), (1, "handed_over")), 1),
        (pages((1, "dead"), (1, "cancelled"), (1, "superseded")), 1),
        (pages((1, "delivered"), (2, "dead")), 2),
        (pages((1, "dead"), (1, "delivered")), None),
        (pages((1, "dead"), (1, "pending")), None),
        (pages((1, "dead"), (1, "leased")), None),
        (pages((1, "dead"), (1, "cancelling")), None),
        (pages((1, "dead"), (2, "pending")), None),
        (pages((1, "dead"), (2, "cancelled")), None),
        (pages((1, "handed_over")), None),
        (pages((1, "dead"), episode=2), None),
        ([], None),
    ],
)
def test_unheard_is_a_highest_level_without_a_page_that_may_arrive(given: list[PageRecord], level: int | None) -> None:
    found = find_unheard(given, open_episodes=OPEN, since=START, noted=())
    assert ([] if level is None else [("k", 1, level)]) == found
    assert [] == find_unheard(given, open_episodes={}, since=START, noted=())
    assert [] == find_unheard(given, open_episodes=OPEN, since=START + timedelta(microseconds=1), noted=())
    assert [] == find_unheard(given, open_episodes=OPEN, since=START, noted={("k", 1, 1), ("k", 1, 2)})


@pytest.mark.parametrize(
    ("given", "unheard"),
    [
        (pages((2, "dead")), True),
        (pages((2, "pending")), True),
        (pages((1, "delivered"), (2, "dead"), (3, "pending")), True),
        (pages((2, "delivered")), False),
        (pages((2, "dead"), (3, "delivered")), False),
        (pages((3, "delivered"), episode=2), True),
        ([], True),
    ],
)
def test_only_a_page_that_arrives_ends_it(given: list[PageRecord], unheard: bool) -> None:
    assert ({"k"} if unheard else set()) == still_unheard(given, open_episodes=OPEN, noted={("k", 1, 2)})
    assert set() == still_unheard(given, open_episodes={"k": 2}, noted={("k", 1, 2)})
