"""The replay of a real service desk's year equals the reference's reading of the rules, on the three stores."""

from pathlib import Path

import pytest

from tests.acceptance.console import finish, start, url_of
from tests.acceptance.reference import Rules, expect
from tests.acceptance.replaying import LOG, rows_of
from tests.postgres import Server


@pytest.mark.skipif(not LOG.exists(), reason=f"the log is no part of the project, and is not at {LOG}")
def test_real_log(postgres_server: Server, tmp_path: Path) -> None:
    """A replay of a real service desk's year gives the reference's file, byte for byte, on all three stores."""
    expected = expect(rows_of(LOG), Rules())
    outs = {name: tmp_path / f"{name}.csv" for name in ("memory", "sqlite", "postgres")}
    with postgres_server.fresh() as dsn:
        urls = {"memory": "memory", "sqlite": f"sqlite:///{tmp_path / 'replay.db'}", "postgres": url_of(dsn)}
        programs = {
            name: start("replay", LOG, "--store", url, "--out", outs[name], "--json") for name, url in urls.items()
        }
        said = {name: finish(process) for name, process in programs.items()}
    for name, told in said.items():
        assert (0, "") == (told.code, told.err), name
        assert expected.csv() == outs[name].read_bytes(), name
        assert [] == told.json["unusable"]
        assert expected.refused == [fault["line"] for fault in told.json["refused"]]
        assert len(expected.steps) == told.json["escalations"] > 3000
