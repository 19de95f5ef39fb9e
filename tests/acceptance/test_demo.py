"""The demonstration: an on-call night in a few seconds, without a network."""

import inspect
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from .console import Console, Said, finish, one_line, start

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Said, Said, Path]:
    """The demonstration's output as text and as JSON, and the folder of its pictures."""
    folder = tmp_path_factory.mktemp("demo")
    programs = (start("demo", "--svg", "night.svg", cwd=folder), start("demo", "--json", cwd=folder))
    plain, as_json = (finish(process) for process in programs)
    return plain, as_json, folder


def test_quick() -> None:
    """The demonstration's night is planned to take less than ten seconds."""
    from escalation_adapters import demo

    pace = inspect.signature(demo.demo).parameters["pace"].default
    assert demo.LENGTH / demo.STEP * pace < 10


def test_quiet(played: tuple[Said, Said, Path]) -> None:
    """The demonstration prints nothing on stderr and leaves only its picture."""
    plain, as_json, folder = played
    assert ((0, ""), (0, "")) == ((plain.code, plain.err), (as_json.code, as_json.err))
    assert ["escalation-demo.svg", "night.svg"] == sorted(path.name for path in folder.iterdir())


def test_for_people(played: tuple[Said, Said, Path]) -> None:
    """The text shows incidents that open, escalate, are paged and acknowledged, and a timeline of the night."""
    plain = played[0]
    for line in (
        "02:00  host      shop/checkout     opens: checkout errors above 5 %",
        "02:05  escalate  shop/checkout     not acknowledged: level 1",
        "02:12  host      shop/checkout     the primary acknowledges",
        "03:20  escalate  edge/certificate  not acknowledged: level 1",
    ):
        assert line in plain.lines, line
    assert any(line.startswith("02:05  page") and "Checkout errors" in line for line in plain.lines)
    assert any("not acknowledged: level 2" in line for line in plain.lines)
    assert "\x1b" not in plain.out
    for bar in ("━", "─", "┄", "n escalated to level n"):
        assert bar in plain.out
    assert "The same as a picture: night.svg" == plain.lines[-1]


def test_for_machines(played: tuple[Said, Said, Path]) -> None:
    """With --json each escalation is paged in the same minute, and no acknowledged incident escalates."""
    told = played[1].json
    assert "escalation-demo.svg" == told["svg"]
    lines = told["lines"]
    assert {"host", "escalate", "page"} == {line["kind"] for line in lines}
    assert all(datetime.fromisoformat(line["at"]).utcoffset() is not None for line in lines)
    climbs = [line["at"] for line in lines if line["kind"] == "escalate"]
    assert climbs == [line["at"] for line in lines if line["kind"] == "page"]
    acknowledged: set[str] = set()
    for line in lines:
        key, text = line["incident_key"], line["text"]
        if line["kind"] == "host":
            (acknowledged.add if "acknowledges" in text else acknowledged.discard)(key)
        assert not (line["kind"] == "escalate" and key in acknowledged)


def test_picture(played: tuple[Said, Said, Path]) -> None:
    """The picture is well-formed, with a row per incident and a numbered circle per escalation."""
    _, as_json, folder = played
    lines = as_json.json["lines"]
    climbs = [line for line in lines if line["kind"] == "escalate"]
    for name in ("night.svg", "escalation-demo.svg"):
        svg = ET.fromstring((folder / name).read_text(encoding="utf-8"))  # noqa: S314 - our own file
        assert f"{SVG}svg" == svg.tag
        circles = [circle for circle in svg.iter(f"{SVG}circle") if "9" == circle.get("r")]
        assert len(climbs) == len(circles)
        texts = [text.text or "" for text in svg.iter(f"{SVG}text")]
        assert sorted(line["text"].rpartition(" ")[2] for line in climbs) == sorted(filter(str.isdigit, texts))
        assert {line["incident_key"] for line in lines if line["kind"] == "host"} <= set(texts)


def test_picture_cannot_be_written(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the picture cannot be written, the command says so in one line."""
    from escalation_adapters import demo

    monkeypatch.setattr(demo, "LENGTH", demo.STEP)  # a night of one minute
    said = console("demo", "--svg", tmp_path / "none" / "night.svg", "--json")
    assert f"{tmp_path / 'none' / 'night.svg'} cannot be written: No such file or directory" == one_line(said)
