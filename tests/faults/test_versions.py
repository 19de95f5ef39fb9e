"""Workers of two versions of the library use one schema, as during a rolling update."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .conftest import NewRun
from .harness.rules import TOO_OLD
from .kill_points.points import path_of

NEWER = "99.0.0"
MIGRATE = "import asyncio, sys; from escalation_adapters.postgres import migrate; asyncio.run(migrate.up(sys.argv[1]))"
ADDED = "-- What a later version may add.\nALTER TABLE {schema}.escalation_pages ADD COLUMN later text;\n"


def newer(folder: Path) -> dict[str, str]:
    """Copy the library as a later version with one more migration. Return the environment variables that select it."""
    for package in ("escalation_core", "escalation_adapters"):
        shutil.copytree(Path(path_of(package)).parent, folder / package)
    version = folder / "escalation_core" / "version.py"
    version.write_text(f'"""The version of both packages."""\n\nVERSION = "{NEWER}"\n', encoding="utf-8")
    migrations = folder / "escalation_adapters" / "postgres" / "migrations"
    number = 1 + max(int(path.name[:4]) for path in migrations.glob("*.sql"))
    (migrations / f"{number:04d}_kill_later.sql").write_text(ADDED, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


async def test_new_version_beside_the_old_one(new_run: NewRun, tmp_path: Path) -> None:
    """Running workers of the old version continue after the migration to a new version, beside its workers.

    A worker of the old version that starts after the migration ends with an error that names the remedy.
    """
    environment = await asyncio.to_thread(newer, tmp_path / "newer")
    async with new_run(seed=22) as run:
        workers = await run.start_workers(2)
        run.start_incidents(40, over=6)
        await asyncio.sleep(1)
        with run.disturbance("migrated while workers run"):
            command = [sys.executable, "-c", MIGRATE, run.dsn]
            await asyncio.to_thread(subprocess.run, command, env=os.environ | environment, check=True)
        await run.start_worker("w3", environment=environment)
        await asyncio.sleep(1.5)
        await run.kill(workers[0])
        old = await run.start_worker("w1", ready=False)
        await asyncio.sleep(1.5)
        with run.fault(TOO_OLD, old):
            assert 0 < await old.until_ended()
        assert "update escalation-core" in old.text
        assert [] == await run.judge()
        versions = await run.execute("SELECT count(DISTINCT version) FROM escalation_workers")
        assert [(2,)] == versions
