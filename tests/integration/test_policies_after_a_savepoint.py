"""A host rolls back to a savepoint, and with it the text of a policy that a verb had kept."""

import psycopg
import pytest

from escalation_core import Policies

from .stage import staged

pytestmark = pytest.mark.direct("the host's own connection does not go through the pooler")
OPS = Policies.from_mapping({"policies": {"ops": {"levels": [{"after": "5m"}]}}})


async def test_a_verb_after_a_rollback_keeps_the_text_again(migrated_dsn: str) -> None:
    """The store has the text of each pin, also if a savepoint undid the verb that kept it first."""
    async with (
        staged(migrated_dsn, policies=OPS) as stage,
        await psycopg.AsyncConnection.connect(migrated_dsn) as connection,
    ):
        verbs = stage.engine.using(connection)
        await connection.execute("SAVEPOINT before")
        await verbs.open("undone", policy="ops")
        await verbs.change_severity("undone", "critical")
        await connection.execute("ROLLBACK TO SAVEPOINT before")
        await verbs.open("kept", policy="ops")
        await connection.commit()
        pins = stage.rows("SELECT incident_key, split_part(policy_pin, '@', 2) FROM incidents")
        assert [("kept", OPS.policies["ops"].digest)] == pins
        assert [OPS.policies["ops"].digest] == stage.rows("SELECT digest FROM escalation_policies")
