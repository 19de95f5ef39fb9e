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


def find_unheard(
    pages: Collection[PageRecord], *, open_episodes: Mapping[str, int], since: datetime, noted: Collection[Step]
) -> list[Step]:
    """Return the steps that are unheard and not noted yet, of which a page died at ``since`` or later.

    ``open_episodes`` has the present episode of each open incident.
    """
    died = {
        (page.incident_key, page.episode, page.level)
        for page in pages
        if page.state is PageState.DEAD and page.due_at >= since and _is_present(page, open_episodes)
    }
    highest = {(key, episode): 0 for key, episode, _ in died}
    heard = set[Step]()
    for page in pages if died else ():
        episode = page.incident_key, page.episode
        if episode in highest:
            highest[episode] = max(highest[episode], page.level)
            if page.state in (*UNSETTLED, PageState.DELIVERED):
                heard.add((*episode, page.level))
    return sorted(died & {(*episode, level) for episode, level in highest.items()} - heard - set(noted))


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
