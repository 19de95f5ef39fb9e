"""The checks of bundles: which requests told of a page, and which pages a key stands for."""

import attrs

from escalation_core.testing.invariants.bundles import bundled_requests, changed_bundles, dropped, unhalved
from escalation_core.testing.invariants.history import FinalPage, History, PageChange, Request
from escalation_core.testing.invariants.pages import undelivered

START = 1_700_000_000.0


def page(number: int, target: str = "ops") -> FinalPage:
    return FinalPage(
        id=number, key=f"k{number}", episode=1, level=1, target=target, dedup_key=f"d{number}", state="delivered"
    )


def claim(number: int, at: float, bundle: str | None = "b", worker: str = "w1", fence: int = 1) -> PageChange:
    return PageChange(
        page=number,
        was="pending",
        state="leased",
        due_was=START,
        due=START + at + 3,
        fence_was=fence - 1,
        fence=fence,
        began=START + at,
        at=START + at,
        worker=worker,
        bundle=bundle,
    )


def request(at: float, key: str = "b", worker: str = "w1") -> Request:
    return Request(dedup_key=key, target="ops", worker=worker, at=START + at, accepted=True)


CLEAN = History(
    ended=START + 9,
    pages=[page(1), page(2), page(3)],
    changes=[claim(1, 1), claim(2, 1), claim(3, 1), claim(1, 2, fence=3), claim(2, 2, fence=3)],
    requests=[request(1.1), request(2.1)],
)
"""A bundle of three pages, and its second try with two of them."""


def whys(history: History) -> list[str]:
    return [violation.why for violation in changed_bundles(history)]


def test_a_key_stands_for_the_pages_of_its_first_message_or_for_fewer() -> None:
    assert [] == whys(CLEAN)
    grown = attrs.evolve(CLEAN, pages=[*CLEAN.pages, page(4)], changes=[*CLEAN.changes, claim(4, 2)])
    assert ["bundle b was tried again with 1 other pages"] == whys(grown)


def test_a_bundle_has_a_key_of_its_own_and_one_target() -> None:
    borrowed = attrs.evolve(CLEAN, changes=[claim(1, 1, "d2")])
    assert ["bundle d2 has the dedup key of an escalation"] == whys(borrowed)
    several = attrs.evolve(CLEAN, pages=[page(1), page(2, "other")], changes=[claim(1, 1), claim(2, 1)])
    assert ["bundle b has pages to several targets"] == whys(several)


def test_a_key_that_was_accepted_tells_of_no_other_pages() -> None:
    """The two parts of a bundle under one key: a receiver that drops copies by key drops the second part."""
    assert [] == list(dropped(CLEAN))
    parted = attrs.evolve(CLEAN, changes=[claim(1, 1), claim(2, 1), claim(3, 2)])
    assert ["k3"] == [one.incident for one in dropped(parted)]
    first, second = CLEAN.requests
    unaccepted = attrs.evolve(parted, requests=[attrs.evolve(first, accepted=False), second])
    assert ["k1", "k2"] == [one.incident for one in dropped(unaccepted)]


def test_of_half_a_bundle_the_other_half_is_not_accepted() -> None:
    """A receiver accepted half of a bundle: its worker settles all pages, so those of the other half are lost."""
    settled = [
        attrs.evolve(claim(number, 1.2, fence=2), was="leased", state="delivered", fence_was=1) for number in (1, 2, 3)
    ]
    half = attrs.evolve(request(1.1), accepted=False, half_accepted=frozenset({"k1"}))
    history = attrs.evolve(CLEAN, changes=[*CLEAN.changes[:3], *settled], requests=[half])
    assert ["k2", "k3"] == [one.incident for one in undelivered(history)]
    assert ["k2", "k3"] == [one.incident for one in dropped(history)]


def test_a_request_tells_of_the_pages_that_were_claimed_for_it() -> None:
    """A page that fell out of the bundle is not in its later message, and another worker's claim is not either."""
    found = bundled_requests(attrs.evolve(CLEAN, changes=[*CLEAN.changes, claim(3, 2, worker="w2", fence=3)]))
    assert {1: 2, 2: 2, 3: 1} == {number: len(requests) for number, requests in found.items()}


def refused(number: int, bundle: str | None, at: float = 1.5) -> PageChange:
    """Return the settlement of a page whose bundle was refused for good."""
    return attrs.evolve(
        claim(number, at, bundle),
        was="leased",
        state="pending",
        due_was=START + 4,
        fence_was=1,
        fence=2,
        reason="refused in a bundle: HTTP 400",
    )


def parts(*bundles: str | None) -> list[str]:
    """Return the violations if a bundle is refused, and its pages go on in these."""
    changes = [claim(number, 1) for number in range(len(bundles))]
    changes += [refused(number, bundle) for number, bundle in enumerate(bundles)]
    return [violation.why for violation in unhalved(attrs.evolve(CLEAN, changes=changes))]


def test_a_refused_bundle_goes_on_in_two_halves() -> None:
    for good in (("c", "c", "d", "d"), ("c", "c", "d", "d", "d"), ("c", "c", None), (None, None), (None,)):
        assert [] == parts(*good)
    assert ["bundle b was refused, and its pages went on in [1, 1, 1, 1]"] == parts(None, None, None, None)
    assert ["bundle b was refused, and its pages went on in [1, 3]"] == parts("c", "c", "c", None)
    assert ["bundle b was refused, and its pages went on in [3]"] == parts("c", "c", "c")
    assert ["bundle b was refused, and its pages kept the key"] == parts("b", "b", "c", "c")


def test_pages_of_a_bundle_that_are_settled_apart_are_halved_apart() -> None:
    """Another transaction locks two of four pages: they are settled later."""
    changes = [claim(number, 1) for number in range(4)]
    changes += [refused(0, None), refused(1, None), refused(2, None, 1.8), refused(3, None, 1.8)]
    assert [] == list(unhalved(attrs.evolve(CLEAN, changes=changes)))
