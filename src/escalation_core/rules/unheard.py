"""Unheard incidents: no page of the highest level is delivered or still to be tried.

An incident stays unheard until a page of this level or of a later one arrives, or until it ends. That a page is queued
again does not suffice. These are the rules of ``Outbox.find_unheard`` and of ``Stats.unheard``. A store without SQL
calls these functions.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from ..model import UNSETTLED, PageRecord, PageState

Step = tuple[str, int, int]
"""An incident's key, its episode and its level."""
GIVEN_UP = (PageState.DEAD, PageState.HANDED_OVER)
"""The states of pages whose target will not deliver them."""


def find_unheard(
    pages: Collection[PageRecord], *, open_episodes: Mapping[str, int], since: datetime, noted: Collection[Step]
) -> list[Step]:
    """Return the steps that are unheard and not noted yet, of which a page died or was handed over since ``since``.

    A page may be handed over to a target whose page died long before. ``open_episodes`` has the present episode of
    each open incident.
    """
    ended = {
        (page.incident_key, page.episode): 0
        for page in pages
        if page.state in GIVEN_UP and page.due_at >= since and _is_present(page, open_episodes)
    }
    heard, died = set[Step](), set[Step]()
    for page in pages if ended else ():
        episode = page.incident_key, page.episode
        if episode in ended:
            ended[episode] = max(ended[episode], page.level)
            if page.state in (*UNSETTLED, PageState.DELIVERED):
                heard.add((*episode, page.level))
            elif page.state is PageState.DEAD:
                died.add((*episode, page.level))
    steps = {(*episode, level) for episode, level in ended.items()}
    return sorted((steps & died) - heard - set(noted))


def still_unheard(
    pages: Iterable[PageRecord], *, open_episodes: Mapping[str, int], noted: Collection[Step]
) -> set[str]:
    """Return the keys of the open incidents that are noted as unheard, and of which no page has arrived since."""
    present = {(key, level) for key, episode, level in noted if open_episodes.get(key) == episode}
    arrived: dict[str, int] = {}
    for page in pages if present else ():
        if page.state is PageState.DELIVERED and _is_present(page, open_episodes):
            arrived[page.incident_key] = max(page.level, arrived.get(page.incident_key, 0))
    return {key for key, level in present if arrived.get(key, 0) < level}


def _is_present(page: PageRecord, open_episodes: Mapping[str, int]) -> bool:
    return open_episodes.get(page.incident_key) == page.episode
