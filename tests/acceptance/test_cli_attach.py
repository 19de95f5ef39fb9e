"""``escalation migrate attach``, ``detach`` and ``status`` as an operator uses them."""

import psycopg
import pytest

from ..integration.host_tables import ALERTS, dump, execute
from .console import Console, one_line, url_of

MAPPING = (
    *("--table", "alerts", "--column", "incident_key=id", "--column", "severity=priority"),
    *("--column", "first_seen=created_at:read", "--status", "status", "--open", "triggered"),
    *("--acknowledged", "acked", "--resolved", "closed, canceled"),
)


@pytest.fixture
def alerts(console: Console, pg_dsn: str) -> Console:
    """A console with a database that holds a host's table."""
    execute(pg_dsn, ALERTS)
    console.env = {"ESC_DATABASE_URL": url_of(pg_dsn)}
    return console


def test_attach_reports_what_it_writes(alerts: Console) -> None:
    """Attach and status list each column, its meaning, and the verbs that write the column."""
    attached = alerts("migrate", "attach", *MAPPING, "--existing", "page")
    assert 0 == attached.code
    assert "column created_at: first_seen:read; written by: never; read when a row is inserted" in attached.err
    assert "column priority: severity; written by: open, change_severity" in attached.err
    assert "attached to public.alerts" == attached.lines[-1]
    status = alerts("migrate", "status")
    assert 0 == status.code
    assert "created_at\tfirst_seen:read\tnever; read when a row is inserted" in status.lines
    columns = {row["column"]: row for row in alerts("migrate", "status", "--json").json["columns"]}
    assert "open, acknowledge, unacknowledge, resolve" == columns["status"]["written_by"]


def test_detach_asks_first(alerts: Console, pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detach lists what it removes and asks; without a yes nothing changes, and with --yes the table is as before."""
    before = dump(pg_dsn)
    alerts("migrate", "attach", *MAPPING, "--existing", "page")
    attached = dump(pg_dsn)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: "n")
    refused = alerts("migrate", "detach")
    assert 1 == refused.code
    assert attached == dump(pg_dsn)
    assert "removes triggers: zz_escalation_host_check" in refused.err
    assert "removes columns: first_seen, escalation_level" in refused.err
    assert "a later attach restores them" in refused.err
    done = alerts("migrate", "detach", "--yes", "--json")
    assert "public.alerts" == done.json["table"]
    assert before == dump(pg_dsn)
    assert "not attached to a table; run: escalation migrate attach" in one_line(alerts("tick"))


def test_create_is_said(console: Console, pg_dsn: str) -> None:
    """A command creates a table only with --create, and says so."""
    console.env = {"ESC_DATABASE_URL": url_of(pg_dsn)}
    refused = console("migrate", "up", "--table", "incidnts")
    assert 1 == refused.code
    assert "there is no such table; name yours: --table NAME, or create it: --create" in refused.err
    created = console("migrate", "up", "--create")
    assert "created the table public.incidents" in created.err.splitlines()
    with psycopg.connect(pg_dsn) as connection:
        assert connection.execute("SELECT to_regclass('incidnts') IS NULL").fetchone() == (True,)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--open", "new"), "status: is missing, and words are given; name the column: --status COLUMN"),
        (("--status", "status"), "status.open: has no word"),
        (("--column", "summary=note", "--column", "labels=note"), "the column 'note' is mapped twice"),
        (
            ("--column", "level=note:read"),
            "'level' cannot be read-only; only first_seen, severity, summary, labels can",
        ),
        (("--column", "colour=note"), "the engine has no column 'colour'"),
    ],
)
def test_bad_mapping_is_one_line(alerts: Console, pg_dsn: str, options: tuple[str, ...], fault: str) -> None:
    """Each bad mapping is refused in one line with fault and remedy, and changes nothing."""
    before = dump(pg_dsn)
    said = alerts("migrate", "attach", "--table", "alerts", "--column", "incident_key=id", *options)
    assert fault in one_line(said)
    assert before == dump(pg_dsn)


def test_attach_again_with_a_column_of_another_type(alerts: Console, pg_dsn: str) -> None:
    """The refusal names the column and the types, and the table stays attached as before."""
    alerts("migrate", "attach", *MAPPING, "--existing", "page")
    attached = dump(pg_dsn)
    refused = alerts("migrate", "attach", "--column", "acknowledged_by=created_at")
    assert 1 == refused.code
    assert "mapped twice" in refused.err
    execute(pg_dsn, "ALTER TABLE alerts ADD count int")
    refused = alerts("migrate", "attach", "--column", "acknowledged_by=count")
    assert "column 'count' is integer; it must be text or character varying" in refused.err
    execute(pg_dsn, "ALTER TABLE alerts DROP count")
    assert attached == dump(pg_dsn)
    assert 0 == alerts("migrate", "status").code
