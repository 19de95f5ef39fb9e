"""Write the figures of the last run's files into the docs and the README, as tables and plots."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from .results import FOLDER

ROOT = FOLDER.parent.parent
SPEED = ROOT / "docs/explanation/speed.md"
README = ROOT / "README.md"
IMAGES = ROOT / "docs/images"
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->"
_WIDTH, _LEFT, _ROW = 780, 370, 26


def write() -> None:
    """Write tables and plots."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
    _put(SPEED, "\n\n".join([*_capacity(found), *(_section(result) for result in found.values())]))
    if (short := _short(found)) is not None:
        _put(README, short)
    if "tick" in found:
        _plot("bench-tick", found["tick"], column=1, unit=" incidents/s")
    if "endtoend" in found:
        _plot("bench-endtoend", found["endtoend"], column=1, unit=" pages/s")
    if "empty" in found:
        _plot("bench-empty", found["empty"], column=2, unit=" ms")


def _capacity(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the rates of one database in a short text; nothing until all parts of it were measured."""
    if not {"tick", "endtoend", "verbs", "empty"} <= found.keys():
        return []
    cells = {row[0]: row[1] for name in ("endtoend", "verbs") for row in found[name]["rows"]}
    most = max((row[1] for row in found["tick"]["rows"][2:]), key=lambda rate: float(rate.replace(",", "")))
    rows, _, tick, *_ = found["empty"]["rows"][-1]
    short = (
        f"In short, with {found['tick']['machine']['cores']} cores for the database, the workers and the receiver: all"
        f" workers together recorded {most} escalations a second. One worker delivered {cells['engine, uvloop']} pages"
        f" a second. 32 clients opened {cells['open']} incidents a second, or acknowledged {cells['acknowledge']}. With"
        f" {rows} rows, a tick that found nothing due took {tick} ms."
    )
    return [short]


def _short(found: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the README's table, None until all parts of it were measured."""
    if not {"tick", "endtoend", "lateness", "empty", "backlog"} <= found.keys():
        return None
    first = {name: {row[0]: row for row in found[name]["rows"]} for name in ("tick", "endtoend", "backlog")}
    rows, _, empty, *_ = found["empty"]["rows"][-1]
    column = found["lateness"]["columns"].index("p99, ms")
    late = max(float(row[column]) for row in found["lateness"]["rows"])
    lines = [
        ("escalations that one worker records in a second", first["tick"]["batches of 1000, concurrency 2"][1]),
        ("pages that one worker delivers in a second, to a local web server", first["endtoend"]["engine, uvloop"][1]),
        ("delay of an escalation, in 99 of 100 cases at most", f"{late:.0f} ms"),
        (f"a tick over {rows} incidents of which none may escalate", f"{empty} ms"),
        ("memory of a worker with 1,000,000 incidents due", f"{first['backlog']['1,000,000 due'][2]} MB"),
    ]
    machine = found["tick"]["machine"]
    where = f"PostgreSQL {machine['postgres'] // 10000}, {machine['cores']} cores for everything"
    rows_of_table = [f"| {what} | {figure} |" for what, figure in ((where, "measured"), ("---", "---"), *lines)]
    return "\n".join(rows_of_table)


def _section(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    lines = [f"### {result['title']}", "", _table(result), ""]
    for ratio in result["ratios"]:
        bound = f"at least {ratio['least']:g}" if ratio["least"] is not None else f"at most {ratio['most']:g}"
        aim = "" if ratio["aim"] is None else f", aim {ratio['aim']:g}"
        kept = "kept" if ratio["kept"] else "**missed**"
        lines.append(f"- {ratio['name']}: {ratio['value']:.3g}{ratio['unit']} ({bound}{aim}): {kept}")
    lines += ["", *result["notes"]]
    lines += ["", f"{machine['cores']} cores, Python {machine['python']}, PostgreSQL {machine['postgres'] // 10000}."]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def _table(result: Mapping[str, Any]) -> str:
    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    columns = result["columns"]
    return "\n".join([row(columns), row(["---"] * len(columns)), *(row(cells) for cells in result["rows"])])


def _put(path: Any, text: str) -> None:
    """Replace the text between a page's two comments."""
    head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{text}\n\n{END}{tail}", encoding="utf-8")


def _plot(name: str, result: Mapping[str, Any], *, column: int, unit: str) -> None:
    """Draw one column of a table as bars."""
    bars = [(row[0], float(row[column].replace(",", "")), row[column]) for row in result["rows"]]
    most = max(value for _, value, _ in bars)
    height = 40 + _ROW * len(bars)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
            f' font-size="13" role="img"><title>{escape(result["title"])}</title>'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="22" font-weight="bold">{escape(result["title"])}</text>',
    ]
    for number, (label, value, shown) in enumerate(bars):
        y = 36 + _ROW * number
        length = (_WIDTH - _LEFT - 140) * value / most
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 8}" fill="#6b8fb5"/>')
        parts.append(f'<text x="{_LEFT + length + 6:.1f}" y="{y + 15}">{escape(shown + unit)}</text>')
    (IMAGES / f"{name}.svg").write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
