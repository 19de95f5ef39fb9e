"""The schedules and the people of a policies file: what is read, and every way in which it may be wrong."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from escalation_core import Policies, PoliciesError
from escalation_core.errors import Problem

LEVELS = {"default": {"levels": [{"after": "0m", "to": ["oncall:primary", "slack:ops"]}]}}
OFFICE = {"office": {"zone": "UTC", "windows": [{"from": "09:00", "to": "17:00"}]}}
LAYER: dict[str, Any] = {
    "zone": "Europe/Berlin",
    "start": "2026-01-05T09:00",
    "turn": "7d",
    "people": ["ann", "bob"],
}
SPELL = {"from": "2026-02-01T09:00", "to": "2026-02-02T09:00", "person": "bob"}
PEOPLE = {"ann": "slack:@ann", "bob": "email:bob@example.org", "cid": "slack:@cid"}


def file(schedule: object, people: object = None, **more: Any) -> dict[str, Any]:
    """Return a file with a schedule ``primary``, and by default with three people."""
    return {
        "policies": LEVELS,
        "hours": OFFICE,
        "schedules": {"primary": schedule},
        "people": PEOPLE if people is None else people,
    } | more


def read(schedule: object, **more: Any) -> Policies:
    return Policies.from_mapping(file(schedule, **more))


def problems(mapping: object) -> Mapping[str, Problem]:
    with pytest.raises(PoliciesError) as caught:
        Policies.from_mapping(mapping)
    return caught.value.problems


def checked(policies: Policies, **limits: Any) -> dict[str, str]:
    """Return the problems that ``check`` reports."""
    given: dict[str, Any] = {"max_level": None, "tick_interval": timedelta(minutes=1), "targets": None} | limits
    try:
        policies.check(**given)
    except PoliciesError as error:
        return {path: str(problem) for path, problem in error.problems.items()}
    return {}


def test_a_rotation_is_read() -> None:
    """Each field of a layer and of an override is read."""
    file = read(
        {
            "rotation": LAYER | {"hours": "office", "until": "2027-01-05 09:00:30"},
            "overrides": [SPELL, {"from": "2026-03-01T00:00Z", "to": "2026-03-02T00:00+05:45", "person": "cid"}],
        }
    )
    rotation = file.schedules["primary"]
    [layer] = rotation.layers
    assert ("Europe/Berlin", datetime(2026, 1, 5, 9), timedelta(days=7)) == (layer.zone, layer.start, layer.turn)  # noqa: DTZ001 - local
    assert (("ann", "bob"), datetime(2027, 1, 5, 9, 0, 30)) == (layer.people, layer.until)  # noqa: DTZ001 - local
    assert file.hours["office"] == layer.hours
    # A time without an offset is a local one of the rotation's zone.
    assert [
        (datetime(2026, 2, 1, 8, tzinfo=UTC), datetime(2026, 2, 2, 8, tzinfo=UTC), "bob"),
        (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 18, 15, tzinfo=UTC), "cid"),
    ] == [(each.start, each.end, each.person) for each in rotation.overrides]
    assert {"ann"} == rotation.on_call(datetime(2026, 1, 5, 9, 0, tzinfo=UTC))
    assert PEOPLE == file.people


def test_layers_are_read_in_their_order() -> None:
    """The last layer that names a person decides. Local times of overrides are those of the first layer."""
    layers = [LAYER | {"zone": "Asia/Kathmandu"}, LAYER | {"people": ["cid"], "hours": "office"}]
    file = read({"layers": layers, "overrides": [SPELL]})
    rotation = file.schedules["primary"]
    assert {"cid"} == rotation.on_call(datetime(2026, 1, 6, 9, tzinfo=UTC))
    assert {"ann"} == rotation.on_call(datetime(2026, 1, 6, 17, tzinfo=UTC))
    assert datetime(2026, 2, 1, 3, 15, tzinfo=UTC) == rotation.overrides[0].start


def test_tomls_datetimes_are_read() -> None:
    """TOML has datetimes with and without an offset."""
    start = datetime(2026, 1, 5, 9)  # noqa: DTZ001 - a local time
    spell = {
        "from": datetime(2026, 2, 1, 9),  # noqa: DTZ001 - a local time
        "to": datetime(2026, 2, 2, 9, tzinfo=timezone(timedelta(hours=1))),
        "person": "bob",
    }
    assert read({"rotation": LAYER, "overrides": [SPELL]}) == read(
        {"rotation": LAYER | {"start": start}, "overrides": [spell]}
    )


def test_a_calendar_is_read() -> None:
    """A calendar is a path or an https URL, which neither the repr nor a message has."""
    file = read({"ical": "https://calendar.example/s3cret.ics"}, schedules={"primary": {"ical": "https://x/s3cret"}})
    assert {"primary": "https://x/s3cret"} == file.calendars
    assert "s3cret" not in repr(file)
    assert {} == file.schedules
    assert {"primary": "../rota.ics"} == read({"ical": "../rota.ics"}).calendars


def test_schedules_are_in_the_digest_and_not_in_a_version() -> None:
    """A file with other schedules or people is another file, and its policies stay the same versions."""
    files = [
        read({"rotation": LAYER}),
        read({"rotation": LAYER, "overrides": [SPELL]}),
        read({"rotation": LAYER}, people={"ann": "slack:@ann"}),
        read({"ical": "rota.ics"}),
        read({"ical": "other.ics"}),
    ]
    assert len(files) == len({file.digest for file in files})
    assert 1 == len({file.policies["default"].digest for file in files})


def test_a_file_without_schedules_has_the_digest_that_it_had() -> None:
    """Workers of an earlier version compare digests of files."""
    assert {"policies", "hours", "assign"} == set(Policies.from_mapping({"policies": LEVELS}).as_mapping())


def test_targets_are_those_of_people_too() -> None:
    """The targets of a file are those of levels and people; a schedule is not a target."""
    assert {"slack:ops", *PEOPLE.values()} == read({"rotation": LAYER}).targets


def test_hours_of_a_layer_are_hours_of_the_file() -> None:
    """Hours that only a layer uses have no warning, and the limits of hours apply to them."""
    file = read({"rotation": LAYER | {"hours": "office"}})
    assert () == file.warnings
    assert file.hours == Policies(policies=file.policies, schedules=file.schedules).hours
    assert ["hours.office.windows[0]"] == list(checked(file, tick_interval=timedelta(hours=5)))


def test_warnings() -> None:
    """A schedule that no level names and a person without a target have a warning."""
    instead = "ESC_DEFAULT_TARGET, or else what the routes say, is paged instead"
    file = read({"rotation": LAYER}, people={"ann": "slack:@ann"}, schedules={"spare": {"rotation": LAYER}}, hours={})
    assert (
        "schedules.spare: no policy names this schedule",
        f'schedules.spare: people has no target for "bob": {instead}',
    ) == file.warnings


def test_check_of_schedules() -> None:
    """A level may name a schedule of the file, a calendar, or one of another source; else the nearest is named."""
    file = read({"rotation": LAYER})
    assert {} == checked(file)
    other = read({"rotation": LAYER}, schedules={"primry": {"rotation": LAYER}, "calendar": {"ical": "x"}})
    said = 'names the schedule "primary", which is not known; the nearest is "primry"'
    assert {"policies.default.levels[0].to": said} == checked(other)
    assert {} == checked(other, schedules={"primary"})
    assert {} == checked(other, schedules=None)
    calendar = read({"ical": "rota.ics"})
    assert {} == checked(calendar)
    none = Policies.from_mapping({"policies": LEVELS})
    said = 'names the schedule "primary", which is not known; there is none: leave it out'
    assert {"policies.default.levels[0].to": said} == checked(none)


def test_check_of_people() -> None:
    """A person whose target no notifier serves is refused, and so is a target beside a schedule."""
    file = read({"rotation": LAYER})
    assert {} == checked(file, targets={"slack:ops", *PEOPLE.values()})
    said = "which is not known; the nearest is"
    remedy = "a notifier must serve it, for example that of ESC_TARGETS"
    assert {
        "people.bob": f'names the target "email:bob@example.org", {said} "slack:ops"; {remedy}',
        "people.cid": f'names the target "slack:@cid", {said} "slack:@ann"; {remedy}',
    } == checked(file, targets={"slack:ops", "slack:@ann"})
    assert ["policies.default.levels[0].to"] == list(checked(file, targets=set(PEOPLE.values())))


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"people": []}, "people", "has 0 people; write 1 to 1000"),
        ({"people": ["a"] * 1001}, "people", "has 1001 people; write 1 to 1000"),
        ({"people": ["ann", "bob", "ann"]}, "people", "has the same person at places 1 and 3; name each person once"),
        ({"people": "ann"}, "people", 'is "ann"; write a list of people'),
        ({"people": ["ann", 5]}, "people[1]", "is 5; write text"),
        ({"people": ["ann", " bob"]}, "people[1]", "is not a valid person; give 1 to 200 printable characters"),
        ({"people": ["a\nb"]}, "people[0]", "is not a valid person"),
        ({"turn": "0h"}, "turn", "is 0:00:00; give 1 hour to 365 days"),
        ({"turn": "59m"}, "turn", "is 0:59:00; give 1 hour to 365 days"),
        ({"turn": "366d"}, "turn", 'is "366d"; write at most 365d'),
        ({"turn": "weekly"}, "turn", 'is "weekly"; write a number and its unit'),
        ({"zone": "Europe/Berln"}, "zone", 'is "Europe/Berln"; write an IANA name, for example Europe/Berlin'),
        ({"start": "2026-01-05T09:00+01:00"}, "start", 'is "2026-01-05T09:00+01:00"; leave the offset out: the zone'),
        ({"start": "2026-01-05T09:00Z"}, "start", 'is "2026-01-05T09:00Z"; leave the offset out'),
        ({"start": datetime(2026, 1, 5, tzinfo=UTC)}, "start", "is 2026-01-05 00:00:00+00:00; leave the offset out"),
        ({"start": "2026-01-05"}, "start", 'is "2026-01-05"; write a date and a time, for example 2026-01-05T09:00'),
        ({"start": "2026-02-30T09:00"}, "start", '"2026-02-30T09:00" does not exist; write a day of the calendar'),
        ({"start": "2200-01-01T09:00"}, "start", 'is "2200-01-01T09:00"; write a year from 1970 to 2199'),
        ({"start": "2026-01-05T09:00:00.5"}, "start", 'is "2026-01-05T09:00:00.5"; write a date and a time'),
        ({"start": datetime(2026, 1, 5, 9, 0, 0, 5)}, "start", "is 2026-01-05 09:00:00.000005; write a date and"),  # noqa: DTZ001 - local
        ({"until": "2026-01-05T09:00"}, "until", "is not after start; give a later local time, or leave it out"),
        (
            {"start": "2026-01-05T18:00", "until": "2026-01-06T09:00", "hours": "office"},
            "hours",
            "do not open before the layer ends; write other hours, or a later until",
        ),
        ({"until": "2027-01-05T09:00Z"}, "until", 'is "2027-01-05T09:00Z"; leave the offset out'),
        ({"until": None}, "until", "is empty; write a date and a time"),
        ({"hours": "ofice"}, "hours", 'names the hours "ofice", which is not known; the nearest is "office"'),
        ({"ppl": []}, "ppl", 'is the field "ppl", which is not known; the nearest is "people"'),
    ],
)
def test_wrong_layers(fields: dict[str, Any], path: str, said: str) -> None:
    """A wrong field of a layer is refused with its path, in a rotation and in a list of layers."""
    for schedule, place in (
        ({"rotation": LAYER | fields}, "schedules.primary.rotation"),
        ({"layers": [LAYER | {"until": "2030-01-01T00:00"}, LAYER | fields]}, "schedules.primary.layers[1]"),
    ):
        found = problems(file(schedule))
        assert [f"{place}.{path}"] == list(found)
        assert str(found[f"{place}.{path}"]).startswith(said)


@pytest.mark.parametrize("field", ["zone", "start", "turn", "people"])
def test_a_layer_without_a_field(field: str) -> None:
    """Zone, start, turn and people are required."""
    layer = {name: value for name, value in LAYER.items() if name != field}
    assert {f"schedules.primary.rotation.{field}": "is missing; write it"} == problems(file({"rotation": layer}))


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"to": "2026-02-01T09:00"}, "to", "is not after from; write a later end"),
        ({"to": "2026-01-01T09:00"}, "to", "is not after from; write a later end"),
        # 9:00 in Berlin is 8:00 UTC.
        ({"from": "2026-02-02T08:00Z"}, "to", "is not after from; write a later end"),
        (
            {"from": "2026-03-29T02:10", "to": "2026-03-29T02:50"},
            "to",
            "is never shown by the clock of Europe/Berlin, nor is from; write times that it shows",
        ),
        ({"from": "tomorrow"}, "from", 'is "tomorrow"; write a date and a time, for example 2026-01-05T09:00'),
        ({"from": "2026-02-01T09:00+24:00"}, "from", 'is "2026-02-01T09:00+24:00"; write a date and a time'),
        ({"from": "2026-02-01T09:00 "}, "from", 'is "2026-02-01T09:00 "; write a date and a time'),
        ({"person": "bbo"}, "person", 'names the person "bbo", which is not known; the nearest is "bob"'),
        ({"person": ""}, "person", "is empty; write text"),
        ({"start": "x"}, "start", 'is the field "start", which is not known; the nearest is'),
    ],
)
def test_wrong_overrides(fields: dict[str, Any], path: str, said: str) -> None:
    """A wrong override is refused with its path."""
    found = problems(file({"rotation": LAYER, "overrides": [SPELL, SPELL | fields]}))
    assert [f"schedules.primary.overrides[1].{path}"] == list(found)
    assert found.popitem()[1].startswith(said)  # type: ignore[attr-defined]


def test_a_person_of_an_override() -> None:
    """An override may name a person of the layers or of ``people``."""
    for person in ("ann", "cid"):
        assert read({"rotation": LAYER, "overrides": [SPELL | {"person": person}]}).schedules
    assert read({"rotation": LAYER, "overrides": [SPELL]}, people={}).schedules


@pytest.mark.parametrize(
    ("schedule", "path", "said"),
    [
        ({}, "", "has no rotation, no layers and no ical; write one of rotation, layers and ical"),
        ({"overrides": []}, "", "has no rotation, no layers and no ical; write one of"),
        ({"rotation": LAYER, "layers": [LAYER]}, "", "has rotation and layers; write one of rotation, layers and ical"),
        ({"rotation": LAYER, "ical": "x"}, "", "has rotation and ical; write one of"),
        ({"ical": "x", "overrides": []}, ".overrides", "stand beside a calendar; change the calendar"),
        ({"ical": ""}, ".ical", "is empty; write text"),
        ({"ical": "a\nb"}, ".ical", "holds a character that is not printable; write a path or an https URL"),
        ({"ical": "http://x/s3cret"}, ".ical", "is a URL that does not begin with https://; write an https URL, or a"),
        ({"ical": ["https://x/s3cret"]}, ".ical", "is a list; write text"),
        ({"layers": []}, ".layers", "has 0 layers; write 1 to 50"),
        ({"layers": [LAYER] * 51}, ".layers", "has 51 layers; write 1 to 50"),
        ({"layers": LAYER}, ".layers", "is a mapping; write a list of layers"),
        ({"layers": None}, ".layers", "is empty; write a list of layers"),
        ({"layers": [LAYER, "x"]}, ".layers[1]", 'is "x"; write a mapping of zone, start, turn, people, hours, until'),
        ({"rotation": [LAYER]}, ".rotation", "is a list; write a mapping of zone, start"),
        ({"rotation": LAYER, "overrides": SPELL}, ".overrides", "is a mapping; write a list of overrides"),
        ({"rotation": LAYER, "overrides": [SPELL] * 1001}, ".overrides", "has 1001 overrides; write 0 to 1000"),
        (
            {"layers": [LAYER | {"hours": "office"}, LAYER]},
            ".layers[0]",
            "never applies: whenever it names a person, a later layer names one instead; leave it out, or change",
        ),
        ({"rotations": LAYER}, ".rotations", 'is the field "rotations", which is not known; the nearest is "rotation"'),
        ({"name": "x"}, ".name", 'is the field "name", which is not known'),
        ([], "", "is a list; write a mapping of fields"),
    ],
)
def test_wrong_schedules(schedule: Any, path: str, said: str) -> None:
    """A wrong schedule is refused with its path, and no message has the URL of a calendar."""
    found = problems(file(schedule))
    assert [f"schedules.primary{path}"] == list(found)
    problem = str(found[f"schedules.primary{path}"])
    assert problem.startswith(said)
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    ("people", "path", "said"),
    [
        ({"ann": "oncall:primary"}, "people.ann", '"oncall:primary" names a schedule; name a target, for example'),
        ({"ann": "https://x/s3cret"}, "people.ann", "has a URL where a name belongs"),
        ({"ann": ""}, "people.ann", "is empty; write text"),
        ({"ann": ["slack:@ann"]}, "people.ann", "is a list; write text"),
        ({" ann": "slack:@ann"}, 'people[" ann"]', "is not a valid person; give 1 to 200 printable characters"),
        ({"": "slack:@ann"}, 'people[""]', "is empty; write text"),
        (["ann"], "people", "is a list; write a mapping of people to targets"),
    ],
)
def test_wrong_people(people: Any, path: str, said: str) -> None:
    """A wrong person or target is refused with its path."""
    found = problems(file({"rotation": LAYER}, people=people))
    assert [path] == list(found)
    assert str(found[path]).startswith(said)


def test_all_problems_at_once() -> None:
    """Problems of schedules, people and policies are reported together, and a fault causes no second one."""
    found = problems(
        file(
            {"rotation": LAYER | {"hours": "shut"}, "overrides": [SPELL | {"to": "2026-01-01T09:00", "person": "dan"}]},
            people={"dan": 5},
            policies={"default": {"levels": [{"after": "x"}]}},
            hours={"shut": {"zone": "Mars", "windows": [{"from": "09:00", "to": "17:00"}]}},
        )
    )
    assert [
        "hours.shut.zone",
        "policies.default.levels[0].after",
        "people.dan",
        "schedules.primary.overrides[0].to",
    ] == list(found)


def test_names_of_schedules() -> None:
    """Names of schedules are like those of hours; two that differ only in case are refused."""
    assert ["schedules.Primary"] == list(
        problems(file(None, schedules={"primary": {"rotation": LAYER}, "Primary": {"rotation": LAYER}}))
    )
    [problem] = problems(file(None, schedules={"a b": {"rotation": LAYER}})).values()
    assert '"a b" is not a valid name' == problem.fault
