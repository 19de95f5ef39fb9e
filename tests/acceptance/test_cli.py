"""The commands of the command line, as people and schedulers use them, on both databases."""

import getpass
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from escalation_core import idempotency_key

from .console import TO_THE_LOG, Console, Said, ago, one_line, told


def after(said: Said, *names: str) -> tuple[object, ...]:
    """Return these fields of the incident that a verb printed as JSON."""
    assert (0, []) == (said.code, said.complaints), said
    return tuple(said.json[name] for name in names)


# --- the verbs


def test_verbs(escalation: Console) -> None:
    """Each verb changes the incident as the rules say, and prints the incident."""
    born = ago(20)
    opened = escalation(
        "open", "db-7/disk", "--severity", "critical", "--summary", "Disk at 91 %", "--label", "team=db",
        "--label", "site=a=b", "--first-seen", born, "--by", "monitoring", "--json",
    )  # fmt: skip
    assert ("db-7/disk", "critical", "Disk at 91 %", {"team": "db", "site": "a=b"}, 0, 1) == after(
        opened, "incident_key", "severity", "summary", "labels", "level", "episode"
    )
    assert datetime.fromisoformat(born) == datetime.fromisoformat(opened.json["first_seen"])
    assert datetime.fromisoformat(born) + timedelta(minutes=5) == datetime.fromisoformat(opened.json["next_due_at"])

    assert (1,) == after(escalation("tick", "--record-only", "--json"), "escalations")
    assert "db-7/disk: open, critical, level 1, episode 1; next escalation " in told(escalation("open", "db-7/disk"))

    until = datetime.now(UTC) + timedelta(days=3)
    snoozed = escalation("snooze", "db-7/disk", "--until", until.isoformat(), "--by", "ada", "--json")
    assert [until, until] == [datetime.fromisoformat(str(x)) for x in after(snoozed, "snoozed_until", "next_due_at")]
    spanned = escalation("snooze", "db-7/disk", "--until", "2h", "--json")
    left = datetime.fromisoformat(spanned.json["snoozed_until"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2)
    assert (None,) == after(escalation("snooze", "db-7/disk", "--end", "--json"), "snoozed_until")

    assert (0, 2) == after(escalation("drain", "db-7/disk", "--json"), "level", "episode")
    assert ("warning",) == after(escalation("severity", "db-7/disk", "warning", "--json"), "severity")

    acknowledged = escalation("ack", "db-7/disk", "--by", "ada", "--json")
    assert ("ada", None) == after(acknowledged, "acknowledged_by", "next_due_at")
    assert (acknowledged.json["acknowledged_at"],) == after(escalation("ack", "db-7/disk", "--json"), "acknowledged_at")
    assert "acknowledged, warning, level 0, episode 2; nothing is due" in told(escalation("ack", "db-7/disk"))
    assert (None, None) == after(escalation("unack", "db-7/disk", "--json"), "acknowledged_by", "acknowledged_at")

    resolved = escalation("resolve", "db-7/disk", "--by", "ada", "--json")
    assert resolved.json["resolved_at"] is not None
    assert "resolved, warning" in told(escalation("resolve", "db-7/disk"))
    assert (3, 0, "warning") == after(escalation("open", "db-7/disk", "--json"), "episode", "level", "severity")


@pytest.mark.parametrize(
    ("given", "refused", "reason"),
    [
        ((), ("ack", "k"), "cannot acknowledge incident 'k': it is unknown; open it first"),
        ((), ("unack", "k"), "cannot unacknowledge incident 'k': it is unknown; open it first"),
        ((), ("resolve", "k"), "cannot resolve incident 'k': it is unknown; open it first"),
        ((), ("drain", "k"), "cannot drain incident 'k': it is unknown; open it first"),
        ((), ("severity", "k", "x"), "cannot change_severity incident 'k': it is unknown; open it first"),
        ((), ("snooze", "k", "--end"), "cannot snooze incident 'k': it is unknown; open it first"),
        ((("open", "k"),), ("drain", "k"), "cannot drain incident 'k': it is at level 0; there is no level to take"),
        ((("open", "k"), ("ack", "k")), ("snooze", "k", "--end"), "cannot snooze incident 'k': it is acknowledged; un"),
        ((("open", "k"), ("resolve", "k")), ("ack", "k"), "cannot acknowledge incident 'k': it is resolved; open it"),
        ((), ("show", "k"), "key: 'k' is unknown; open it first"),
        ((), ("show", "k", "--json"), "key: 'k' is unknown; open it first"),
        ((), ("open", "k" * 513), "incident_key: has 513 bytes; give 1 to 512"),
        ((), ("open", "a\nb"), "incident_key: holds a control character"),
        ((), ("open", ""), "incident_key: has 0 bytes"),
        ((), ("open", "k", "--label", "x"), "label: 'x' is not a valid label; write NAME=VALUE"),
        ((), ("open", "k", "--first-seen", "2001-01-01T00:00:00Z"), "first_seen: is 2001-01-01T00:00:00+00:00; give"),
        ((), ("snooze", "k"), "until: is missing, or given beside --end"),
        ((), ("snooze", "k", "--end", "--until", "2h"), "until: is missing, or given beside --end"),
    ],
)
def test_refused(on_sqlite: Console, given: tuple[tuple[str, ...], ...], refused: tuple[str, ...], reason: str) -> None:
    """A refused command says why in one line, exits with code 1 and writes nothing."""
    for command in given:
        told(on_sqlite(*command))
    before = on_sqlite("audit", "--json").json
    assert one_line(on_sqlite(*refused)).startswith(reason)
    assert before == on_sqlite("audit", "--json").json


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (("nope",), "No such command 'nope'"),
        (("ack",), "Missing argument 'KEY'"),
        (("tick", "--loud"), "No such option '--loud'"),
        (
            ("snooze", "k", "--until", "soon"),
            "'soon' is not a valid instant with a time zone; write for example 2025-01-31T12:00:00Z, or a span",
        ),
        (("snooze", "k", "--until", "2025-01-31T12:00:00"), "has no time zone; add Z or +01:00"),
        (("snooze", "k", "--until", "999999w"), "'999999w' is longer than 99999 days"),
        (("audit", "--since", "999999w"), "'999999w' is longer than 99999 days"),
        (("audit", "--since", "1"), "'1' is not a valid span; write for example 30s, 15m, 24h or 7d"),
        (("audit", "--limit", "0"), "0 is not in the range"),
        (("dead", "retry"), "give the ids of pages (escalation dead list shows them), or --all"),
        (("dead", "retry", "1", "--all"), "give the ids of pages (escalation dead list shows them), or --all"),
        (("dead", "retry", "x"), "'x' is not a valid integer"),
        (
            ("migrate", "up", "--existing", "since=2h"),
            "since is a span from now; write an instant, for example since=2025",
        ),
        (("replay", "x.csv"), "Missing option '--store'"),
        (("--pooler", "session", "tick"), "'session' is not"),
    ],
)
def test_usage(on_sqlite: Console, wrong: tuple[str, ...], reason: str) -> None:
    """A wrong call prints usage and reason on stderr, and exits with code 2."""
    said = on_sqlite(*wrong)
    assert (2, "") == (said.code, said.out)
    assert said.err.startswith("Usage: escalation")
    assert reason in " ".join(said.err.split())


# --- operating


def test_tick(escalation: Console) -> None:
    """A tick records and delivers; a dry run reports and changes nothing; --record-only delivers nothing."""
    told(escalation("open", "late", "--severity", "critical", "--first-seen", ago(20)))
    told(escalation("open", "early", "--severity", "critical"))
    dry = escalation("tick", "--dry-run")
    assert "1 escalated, mode open (dry run: nothing was changed)" == dry.lines[0]
    assert ["incident\tlevel\toutcome\ttargets\tdetail", "late\t1\tescalate\tlog\t"] == dry.lines[-2:]
    routes = '[{"severity": "low", "targets": ["log"]}]'
    targets = '{"a": "https://a.example", "b": "https://b.example"}'
    unrouted = escalation("tick", "--dry-run", ESC_ROUTES=routes, ESC_TARGETS=targets)
    reason = "unroutable: no route matches and there is no default target"
    assert f"late\t1\tescalate\tno target\t{reason}" == unrouted.lines[-1]
    [example] = escalation("tick", "--dry-run", "--json", ESC_DEFAULT_TARGET="b", ESC_TARGETS=targets).json["examples"]
    assert (["b"], None) == (example["targets"], example["detail"])
    shown = escalation("show", "late", "--json").json
    assert 0 == shown["incident"]["level"]
    assert [] == shown["escalations"]
    assert [] == shown["pages"]
    recorded = escalation("tick", "--record-only", "--json")
    assert (1, 1, False, None) == after(recorded, "escalations", "pages", "dry_run", "delivery")
    delivered = escalation("tick", "--json")
    assert 1 == delivered.json["delivery"]["delivered"]
    # Without targets, pages go to the log.
    assert TO_THE_LOG in delivered.err
    [line] = delivered.complaints
    assert "page to log: incident 'late' level 1" in json.loads(line)["message"]
    assert "0 escalated, mode open" == escalation("tick").lines[0]


def test_tick_by_hand(escalation: Console) -> None:
    """A tick with --by or --reason is noted in the audit; a plain tick and a dry run are not."""
    told(escalation("tick"))
    told(escalation("tick", "--dry-run", "--by", "ada"))
    told(escalation("tick", "--by", "ada", ESC_DRY_RUN="true"))
    told(escalation("tick", "--by", "ada"))
    told(escalation("tick", "--reason", "no worker runs"))
    noted = [(each["actor"], each["reason"]) for each in escalation("audit", "--json").json if each["action"] == "tick"]
    assert [(getpass.getuser(), "no worker runs"), ("ada", None)] == noted


def test_switches(on_sqlite: Console) -> None:
    """A disabled, V1-off or paused tick escalates nothing and reports the mode."""
    told(on_sqlite("open", "late", "--first-seen", ago(20)))
    began = datetime.now(UTC) - timedelta(minutes=5)
    always = {"ESC_PAUSE_CRON": f"{began.minute} * * * *", "ESC_PAUSE_MIN": "59"}
    for mode, variables in {
        "disabled": {"ESCALATION_WORKER_ENABLED": "false"},
        "v1_off": {"ESCALATION_V1": "false"},
    }.items():
        assert (0, mode) == after(on_sqlite("tick", "--json", **variables), "escalations", "mode")
        assert mode == on_sqlite("health", "--json", **variables).json["mode"]
    paused = on_sqlite("tick", "--json", **always)
    assert (0, "paused") == after(paused, "escalations", "mode")
    assert (began + timedelta(minutes=59)).minute == datetime.fromisoformat(paused.json["paused_until"]).minute
    assert (1, True) == after(on_sqlite("tick", "--json", ESC_DRY_RUN="true"), "escalations", "dry_run")
    assert (1,) == after(on_sqlite("tick", "--json", "--record-only"), "escalations")


def test_show(escalation: Console) -> None:
    """``show`` prints the incident's state, a timeline, the pages and the history."""
    told(escalation("open", "late", "--severity", "critical", "--first-seen", ago(60), "--by", "monitoring"))
    escalation("tick")
    told(escalation("ack", "late", "--by", "ada"))
    out = told(escalation("show", "late"))
    lines = out.splitlines()
    state, _, coming = lines[0].partition("; ")
    assert "late: acknowledged, critical, level 1, episode 1" == state
    assert coming.startswith("no escalation comes (acknowledged: by ada at 20")
    assert ["first seen", "last escalation", "acknowledged"] == [line.split("\t")[0] for line in lines[1:4]]
    assert lines[3].endswith("Z by ada")
    assert "1" in lines[4]
    assert "━ open  ─ acknowledged  ┄ resolved  n escalated to level n" == lines[6].strip()
    assert ["1", "1", "1", "log", "delivered", "1"] == lines[8].split("\t")[:6]
    history = [line.split("\t")[1:5] for line in lines[10:]]
    assert [
        ["acknowledge", "1", "1", "ada"],
        ["page delivered", "1", "1", ""],
        ["escalate", "1", "1", ""],
        ["open", "1", "0", "monitoring"],
    ] == history
    shown = escalation("show", "late", "--json").json
    assert {"incident", "escalations", "pages", "audit"} <= set(shown)
    assert [idempotency_key("late", 1)] == [one["unique_hash"] for one in shown["escalations"]]
    assert [idempotency_key("late", 1)] == [page["dedup_key"] for page in shown["pages"]]


def by_sql(request: pytest.FixtureRequest, *statements: str) -> None:
    """Run SQL on the test's database, without the library."""
    if "postgres" in request.node.name:
        with psycopg.connect(request.getfixturevalue("migrated_dsn"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
    else:
        with closing(sqlite3.connect(request.getfixturevalue("tmp_path") / "escalation.db")) as file:
            for statement in statements:
                file.execute(statement)
            file.commit()


def test_a_deleted_row(request: pytest.FixtureRequest, escalation: Console) -> None:
    """``show`` prints the remaining records of a row that the host deleted, even if it never escalated."""
    told(escalation("open", "k", "--by", "ada"))
    by_sql(request, "DELETE FROM incidents")
    lines = told(escalation("show", "k")).splitlines()
    assert ("k: the row is gone", "no pages") == (lines[0], lines[1])
    assert ["open", "1", "0", "ada"] == lines[-1].split("\t")[1:5]


def test_a_row_that_cannot_be_read(request: pytest.FixtureRequest, escalation: Console) -> None:
    """A verb on an unreadable row names the row's fault in one line, and ``show`` names it as well."""
    told(escalation("open", "k"))
    by_sql(request, "UPDATE incidents SET escalation_level = -1")
    fault = "cannot acknowledge incident 'k': it is unreadable; correct its row: level: is -1"
    assert one_line(escalation("ack", "k")).startswith(fault)
    assert "the row cannot be read; no escalation comes (unreadable: level: is -1" in told(escalation("show", "k"))


def test_recalc(escalation: Console) -> None:
    """After a change to shorter windows health warns, and recalc gives each open incident its true instant."""
    told(escalation("open", "k", "--severity", "warning", "--first-seen", ago(10)))
    assert [] == escalation("tick", "--json").json["examples"]
    shorter = {"ESC_WARN_ACK_MIN": "5"}
    assert 0 == escalation("tick", "--json", **shorter).json["escalations"]
    health = escalation("health", **shorter)
    changed = "windows, snooze, tick, maximum level or policies changed since the last recalc: run escalation recalc"
    assert (0, [f"warning: {changed}"]) == (health.code, health.err.splitlines())
    assert "1 unresolved incidents visited" == told(escalation("recalc", "--by", "ada", **shorter)).strip()
    assert "" == escalation("health", **shorter).err
    assert {"visited": 1} == escalation("recalc", "--json", **shorter).json
    assert 1 == escalation("tick", "--json", **shorter).json["escalations"]


def test_audit(escalation: Console) -> None:
    """The audit lists entries, newest first, within the span and the limit."""
    assert "nothing happened" == told(escalation("audit")).strip()
    assert [] == escalation("audit", "--json").json
    for key in ("a", "b", "c"):
        told(escalation("open", key, "--by", "ada"))
    told(escalation("resolve", "b", "--by", "bob"))
    entries = escalation("audit", "--json").json
    assert [("resolve", "b", "bob"), ("open", "c", "ada"), ("open", "b", "ada"), ("open", "a", "ada")] == [
        (entry["action"], entry["incident_key"], entry["actor"]) for entry in entries
    ]
    assert entries[:2] == escalation("audit", "--limit", "2", "--json").json
    assert entries == escalation("audit", "--since", "99999d", "--json").json
    header, first, *_ = told(escalation("audit")).splitlines()
    assert "at\twhat\tincident\tepisode\tlevel\twho\ttarget\treason" == header
    assert ["resolve", "b", "1", "0", "bob"] == first.split("\t")[1:6]


def test_dead(escalation: Console) -> None:
    """Dead pages are listed with their reason, and retried by id or all, under their old dedup key."""
    assert "no dead pages" == told(escalation("dead", "list")).strip()
    targets = {"ESC_TARGETS": json.dumps({"a": "https://192.0.2.1/x", "b": "https://192.0.2.1/y"})}
    for key in ("one", "two", "three"):
        told(escalation("open", key, "--first-seen", ago(20)))
    # With two targets, and neither a route nor a default, the router names no target.
    born = escalation("tick", "--record-only", "--json", **targets)
    assert (3, 3) == (born.json["escalations"], born.json["dead_pages"])
    assert (1, 3) == (born.err.count("set ESC_DEFAULT_TARGET"), born.err.count("page is dead"))
    pages = escalation("dead", "list", "--json").json
    assert {idempotency_key(key, 1) for key in ("one", "two", "three")} == {page["dedup_key"] for page in pages}
    assert {"dead"} == {page["state"] for page in pages}
    assert pages[:2] == escalation("dead", "list", "--limit", "2", "--json").json
    lines = told(escalation("dead", "list")).splitlines()
    assert "id\tincident\tepisode\tlevel\ttarget\tattempts\tsince\treason\tbundle" == lines[0]
    assert "unroutable: no route matches and there is no default target" == lines[1].split("\t")[-2]
    assert 3 == escalation("health", "--json").json["dead"]

    routed = targets | {"ESC_DEFAULT_TARGET": "a"}
    one = escalation("dead", "retry", str(pages[0]["id"]), "--by", "ada", "--json", **routed)
    assert {"queued": 1, "cancelled": 0, "left": 0} == one.json
    assert (
        "pages queued again: 2, cancelled: 0, still dead: 0"
        == told(escalation("dead", "retry", "--all", **routed)).strip()
    )
    assert [] == escalation("dead", "list", "--json").json
    assert {"a": 3} == escalation("health", "--json", **routed).json["backlog"]


def test_health(escalation: Console) -> None:
    """Health is ok at first, and shows lag and modes."""
    first = escalation("health")
    assert (0, "ok; mode open") == (first.code, first.lines[0])
    assert 0 == escalation("tick").code
    seen = escalation("health", "--json").json
    assert {"ok", "enabled", "v1", "canaryPct", "tickLagMs", "tickMs"} <= set(seen)
    assert (True, True, True, 100, 60000, 1) == tuple(
        seen[name] for name in ("ok", "enabled", "v1", "canaryPct", "tickMs", "workers")
    )
    assert 0 <= seen["tickLagMs"] < 10_000


def test_health_is_red(on_sqlite: Console, tmp_path: Path) -> None:
    """Two tick intervals after the last tick health is not ok, in both forms, with exit code 1."""
    assert 0 == on_sqlite("tick").code
    with closing(sqlite3.connect(tmp_path / "escalation.db")) as file:
        file.execute("UPDATE escalation_workers SET ticked_at = ticked_at - 121 * 1000000")
        file.commit()
    said = on_sqlite("health")
    assert (1, "NOT OK: no worker has completed a tick for two tick intervals; mode open") == (said.code, said.lines[0])
    as_json = on_sqlite("health", "--json")
    assert (1, False) == (as_json.code, as_json.json["ok"])
    assert 0 == on_sqlite("health", ESC_TICK_MS="600000").code


def test_prune_and_prove(escalation: Console) -> None:
    """``prune`` deletes old rows and prints their numbers; ``prove`` counts the escalations."""
    told(escalation("open", "k", "--severity", "critical", "--first-seen", ago(20)))
    assert 0 == escalation("tick").code
    told(escalation("resolve", "k"))
    assert (
        "removed: 0 escalations, 0 pages, 0 audit entries" == told(escalation("prune", "--older-than", "400d")).strip()
    )
    told(escalation("prune", "--older-than", "400d", "--by", "cron", "--reason", "nightly"))
    prunes = [entry for entry in escalation("audit", "--json").json if entry["action"] == "prune"]
    assert [("cron", "nightly"), (getpass.getuser(), None)] == [
        (each["actor"], each["reason"][-7:] if each["actor"] == "cron" else None) for each in prunes
    ]
    assert 2 == escalation("prune").code
    assert "older_than: is not a valid span of a day or more" in escalation("prune", "--older-than", "1h").err
    proof = escalation("prove", "--json").json
    assert True is proof["holds"]
    assert 1 == proof["escalations"]
    assert {"delivered": 1} == proof["pages"]
    assert told(escalation("prove")).startswith("the promise holds")


def test_override_the_schedule(escalation: Console) -> None:
    """``resume`` ends a scheduled pause only with --override-schedule."""
    began = (datetime.now(UTC) - timedelta(minutes=5)).minute
    always = {"ESC_PAUSE_CRON": f"{began} * * * *", "ESC_PAUSE_MIN": "30"}
    kept = escalation("resume", "--json", **always).json
    assert (None, "paused") == (kept["schedule_lifted_until"], kept["held"])
    lifted = escalation("resume", "--override-schedule", "--json", **always).json
    assert lifted["schedule_lifted_until"] is not None
    assert lifted["held"] is None


TWICE = (
    "INSERT INTO escalation_events (incident_key, level, unique_hash, created_at, episode)"
    " SELECT incident_key, level, unique_hash || '2', created_at, episode FROM escalation_events"
)
UNGUARDED = {
    "postgres": ["DROP INDEX escalation_events_level"],
    "sqlite": [
        "ALTER TABLE escalation_events RENAME TO kept",
        "CREATE TABLE escalation_events AS SELECT * FROM kept",
    ],
}
BREACHES = {
    "without_page": "DELETE FROM escalation_pages",
    "without_escalation": "DELETE FROM escalation_events",
    "duplicates": TWICE,
}


@pytest.mark.parametrize("breach", BREACHES)
def test_prove_finds_what_is_broken(request: pytest.FixtureRequest, escalation: Console, breach: str) -> None:
    """``prove`` finds each breach made with SQL, and exits with code 1."""
    told(escalation("open", "k", "--severity", "critical", "--first-seen", ago(20)))
    assert 0 == escalation("tick").code
    assert 0 == escalation("prove").code
    by_sql(request, *UNGUARDED["postgres" if "postgres" in request.node.name else "sqlite"], BREACHES[breach])
    said = escalation("prove")
    assert (1, "THE PROMISE IS BROKEN") == (said.code, said.lines[0])
    assert 1 == escalation("prove", "--json").json[breach]


def test_pause_and_resume(escalation: Console) -> None:
    """``pause`` prints how to resume, a tick sees the pause, and ``resume`` ends it and says what still holds."""
    assert "escalation resume" in told(escalation("pause", "--until", "1h", "--reason", "deploying", "--by", "ada"))
    assert "paused" == escalation("tick", "--json").json["mode"]
    assert "pauses ended: 1" == told(escalation("resume")).strip()
    switched_off = escalation("resume", ESCALATION_WORKER_ENABLED="false")
    assert "pauses ended: 0; mode is still disabled: see escalation health" == told(switched_off).strip()
    assert "until: is more than 24 hours away" in escalation("pause", "--until", "2d").err
    assert {"ended": 0, "schedule_lifted_until": None, "held": None} == escalation("resume", "--json").json


def test_why_is_kept(escalation: Console) -> None:
    """The audit keeps the actor and the reason of a snooze and of a severity change."""
    told(escalation("open", "k"))
    told(escalation("severity", "k", "critical", "--by", "ada", "--reason", "customers see it"))
    told(escalation("snooze", "k", "--until", "2099-01-01T00:00:00Z", "--by", "bob", "--reason", "on it"))
    audit = {entry["action"]: (entry["actor"], entry["reason"]) for entry in escalation("audit", "--json").json}
    assert ("ada", "critical: customers see it") == audit["change_severity"]
    assert ("bob", "until 2099-01-01T00:00:00+00:00: on it") == audit["snooze"]


def test_pause_within_a_longer_one(escalation: Console) -> None:
    """``pause`` prints the end of the longest pause, not of the new one, even while the worker is disabled."""
    told(escalation("pause", "--until", "1h"))
    until = escalation("health", "--json").json["pausedUntil"]
    within = escalation("pause", "--until", "5m", "--json", ESCALATION_WORKER_ENABLED="false").json
    assert (until, True) == (within["paused_until"], within["ends_at"] < until)
    assert f"paused until {until[:10]} {until[11:19]}Z" in told(escalation("pause", "--until", "5m"))


def test_spans_count_from_the_stores_now(on_sqlite: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span starts at the store's own instant, even if the caller's clock is wrong."""

    def ahead() -> datetime:
        return datetime.now(UTC) + timedelta(hours=3)

    def minutes(end: str) -> int:
        return round((datetime.fromisoformat(end) - ahead()) / timedelta(minutes=1))

    monkeypatch.setattr("escalation_adapters.sqlite.store.system_clock", ahead)
    opened = on_sqlite("open", "k", "--first-seen", "10m", "--json").json
    snoozed = on_sqlite("snooze", "k", "--until", "2h", "--json").json
    paused = on_sqlite("pause", "--until", "5m", "--json").json
    ends = (opened["first_seen"], snoozed["snoozed_until"], paused["ends_at"])
    assert [10, 120, 5] == [minutes(end) for end in ends]


def test_audit_in_pages(escalation: Console) -> None:
    """A full page of the audit prints the cursor of the next page; the last page prints none."""
    for number in range(3):
        told(escalation("open", f"k{number}"))
    first = escalation("audit", "--limit", "2")
    cursor = first.err.rpartition(" ")[2].strip()
    assert 0 == first.code
    assert 3 == len(first.lines)
    assert "there may be more: --after " == first.err.removesuffix(cursor + "\n")
    rest = escalation("audit", "--limit", "2", "--after", cursor, "--json")
    assert (1, "") == (len(rest.json), rest.err)
    assert "after: is not a valid cursor" in escalation("audit", "--after", "x").err


def test_show_names_what_holds(on_sqlite: Console) -> None:
    """``show`` names what holds an incident, and gives an instant only if the escalation will happen."""
    told(on_sqlite("open", "k", "--severity", "critical", "--first-seen", ago(60)))
    assert told(on_sqlite("show", "k")).splitlines()[0].endswith("; the next tick escalates it")
    off = told(on_sqlite("show", "k", ESCALATION_WORKER_ENABLED="false")).splitlines()[0]
    assert off.endswith("; no escalation comes (disabled: ESCALATION_WORKER_ENABLED is false)")
    told(on_sqlite("pause", "--until", "2h", "--reason", "deploying", "--by", "ada"))
    paused = told(on_sqlite("show", "k")).splitlines()[0]
    assert "; next escalation 20" in paused
    assert "(paused: by ada until 20" in paused
    assert paused.endswith(": deploying)")
    assert "paused" == on_sqlite("show", "k", "--json").json["upcoming"]["held_by"]


@pytest.mark.parametrize("command", ["tick", "config"])
def test_pages_to_the_log_alone_are_warned_of(on_sqlite: Console, command: str) -> None:
    """Without targets a command warns that pages go to the log; it also warns of incidents without a target."""
    asked = ("tick",) if command == "tick" else ("config", "check")
    assert 1 == on_sqlite(*asked).err.count(TO_THE_LOG)
    two = '{"slack:a": "https://example.org/a", "slack:b": "https://example.org/b"}'
    assert 1 == on_sqlite(*asked, ESC_TARGETS=two).err.count("is never paged: set ESC_DEFAULT_TARGET")
    one = '{"slack:a": "https://example.org/a"}'
    assert "ESC_TARGETS" not in (said := on_sqlite(*asked, ESC_TARGETS=one).err)
    assert "never paged" not in said
