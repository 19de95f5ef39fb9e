"""The two hashes have pinned values: other processes, versions and languages must get the same."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import InvalidValue, canary_bucket, idempotency_key, in_canary

KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=100)

GOLDEN = [
    ("db-down", 1, 1, "f0dd171b8c27a84b3c6ec9c1c8444f9043b1caa0f6f19a04b0fbc7b8a95739d9"),
    ("db-down", 2, 1, "87affaa99ef3aee71e9975b56e0f2cf8789480368be895ed1c5f14a48f1965fd"),
    ("zażółć|🔥", 7, 1, "23cdba6b0df09deeea4e81aa031290099adcfa4a35ca2e0047544a8d2b612904"),
    ("a", 0, 1, "e4f06efe13841f61603e3cd32d4b5df39f9b488f2eea5547626bc326805fcf9f"),
    ("db-down", 1, 2, "f70fef8ac287f8bc38ab56c32b8e29fce1e4310a62982c0d5229a3be9f27dfde"),
    ("Störung-é", 3, 12, "97fd41f7cc1d14b6bde7fc4a8c42d2d7183b7ec3b0b906ea3a80db9c9a5db371"),
]
BUCKETS = {"db-down": 53, "k0": 3, "k2": 71, "k106": 0, "k139": 99, "Störung": 43, "🔥": 10, "incident-42": 25}


def replaced_hash(text: str) -> str:
    """Return the SHA-256 of a text, as the worker that this library replaces computes it."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@pytest.mark.parametrize(("key", "level", "episode", "digest"), GOLDEN)
def test_idempotency_keys_are_golden(key: str, level: int, episode: int, digest: str) -> None:
    """The idempotency key of an escalation is the pinned one."""
    assert digest == idempotency_key(key, level, episode)


@pytest.mark.parametrize(("key", "level", "episode", "digest"), GOLDEN)
def test_golden_vectors_follow_the_formulas(key: str, level: int, episode: int, digest: str) -> None:
    """Episode 1 follows the replaced worker's formula; other episodes put a NUL and the episode first."""
    text = f"{key}|{level}" if episode == 1 else "\0" + f"{episode}|{level}|{key}"
    assert replaced_hash(text) == digest


def test_episode_is_1_unless_given() -> None:
    """Without an episode argument, the key is that of episode 1, as the replaced worker computes it."""
    assert replaced_hash("db-down|3") == idempotency_key("db-down", 3)


@given(KEYS, st.integers(0, 100), st.integers(1, 1000), KEYS, st.integers(0, 100), st.integers(1, 1000))
def test_other_escalations_have_other_keys(
    key: str, level: int, episode: int, key2: str, level2: int, episode2: int
) -> None:
    """Two escalations have one idempotency key only if they are the same."""
    same = (key, level, episode) == (key2, level2, episode2)
    assert same == (idempotency_key(key, level, episode) == idempotency_key(key2, level2, episode2))


def test_bar_and_digits_in_a_key_collide_with_no_other_escalation() -> None:
    """A key that looks like the hashed text of another escalation gets a different hash."""
    texts = [("a|1", 2, 1), ("a", 12, 1), ("a|1|2", 1, 1), ("1|2|a", 3, 1), ("a", 2, 3), ("2|a", 2, 3)]
    assert len(texts) == len({idempotency_key(*text) for text in texts})


@pytest.mark.parametrize(("key", "bucket"), BUCKETS.items())
def test_canary_buckets_are_golden(key: str, bucket: int) -> None:
    """A key's bucket is the pinned one, and the replaced worker's formula gives the same bucket."""
    assert bucket == canary_bucket(key)
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    assert int(digest[:8], 16) % 100 == canary_bucket(key)


@given(KEYS)
def test_every_key_is_in_at_100_and_none_at_0(key: str) -> None:
    """At 100 percent every key is in the canary, and at 0 percent no key is."""
    assert (False, True) == (in_canary(key, 0), in_canary(key, 100))


def test_canary_at_its_edges() -> None:
    """A key is in the canary if its bucket is below the percentage: bucket 0 at 1, 3 at 4, 99 only at 100."""
    edges = [("k106", 0), ("k106", 1), ("k0", 3), ("k0", 4), ("k0", 10), ("k2", 10), ("k139", 99), ("k139", 100)]
    assert [False, True, False, True, True, False, False, True] == [in_canary(key, pct) for key, pct in edges]


@given(KEYS, st.integers(0, 99))
def test_a_higher_percentage_keeps_every_key_that_was_in(key: str, percent: int) -> None:
    """When the percentage rises, no key leaves the canary."""
    assert in_canary(key, percent) <= in_canary(key, percent + 1)


BAD_KEYS: list[tuple[Any, str]] = [
    ("", "has 0 bytes"),
    ("x" * 513, "has 513 bytes"),
    ("é" * 257, "has 514 bytes"),
    ("a\nb", "control character"),
    ("a\x00b", "NUL"),
    ("a\x1fb", "control character"),
    ("a\x7fb", "control character"),
    ("a\x80b", "control character"),
    ("a\x9fb", "control character"),
    ("a\ud800b", "lone surrogate"),
    ("a\udfffb", "lone surrogate"),
    (b"a", "is bytes"),
    (7, "is int"),
    (None, "is NoneType"),
    (["a"], "is list"),
]


@pytest.mark.parametrize(("key", "fault"), BAD_KEYS, ids=lambda value: ascii(value)[:20])
def test_bad_keys_are_refused_by_name(key: Any, fault: str) -> None:
    """Both hashes refuse an invalid incident key, naming the field, the fault and a remedy."""
    for call in (lambda: idempotency_key(key, 1), lambda: canary_bucket(key), lambda: in_canary(key, 10)):
        with pytest.raises(InvalidValue, match=fault) as caught:
            call()
        assert "incident_key" == caught.value.field
        assert caught.value.remedy


@pytest.mark.parametrize("key", ["x", "x" * 512, "é" * 256, " ", "a b", "a\u00a0b", "a\u200bb", "🔥", "Ω|1"])
def test_every_printable_key_up_to_512_bytes_is_taken(key: str) -> None:
    """Any printable key is valid up to 512 bytes of UTF-8, also with blanks and bars."""
    assert replaced_hash(f"{key}|1") == idempotency_key(key, 1)


@pytest.mark.parametrize("level", [True, False, -1, 1.0, "1", None])
def test_bad_levels_are_refused_by_name(level: Any) -> None:
    """A level must be a whole number from 0, and a bool is refused."""
    with pytest.raises(InvalidValue) as caught:
        idempotency_key("k", level)
    assert "level" == caught.value.field


@pytest.mark.parametrize("episode", [True, 0, -1, 1.0, "1", None])
def test_bad_episodes_are_refused_by_name(episode: Any) -> None:
    """An episode must be a whole number from 1, and a bool is refused."""
    with pytest.raises(InvalidValue) as caught:
        idempotency_key("k", 1, episode)
    assert "episode" == caught.value.field


@pytest.mark.parametrize("percent", [True, -1, 101, 50.0, "50", None])
def test_bad_percentages_are_refused_by_name(percent: Any) -> None:
    """A percentage must be a whole number from 0 to 100, and a bool is refused."""
    with pytest.raises(InvalidValue) as caught:
        in_canary("k", percent)
    assert "percent" == caught.value.field


def test_fault_is_a_value_error_with_its_three_parts() -> None:
    """A refusal's text consists of field, fault and remedy, and hosts can catch it as a ValueError."""
    with pytest.raises(ValueError, match=r"^incident_key: has 0 bytes; give 1 to 512 bytes of UTF-8$"):
        idempotency_key("", 1)
