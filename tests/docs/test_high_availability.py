"""The page about Patroni agrees with its configuration, which ``nox -s faults -- --full`` runs on three nodes."""

import re

from psycopg.conninfo import conninfo_to_dict

from escalation_adapters.postgres.dsn import arguments

from .pages import DOCS

PAGE = (DOCS / "how-to/high-availability.md").read_text(encoding="utf-8")
CONFIG = (DOCS / "how-to/patroni/db1.yml").read_text(encoding="utf-8")


def test_its_times_are_legal() -> None:
    """As Patroni requires, ttl covers loop_wait and two retries, and is at least 20 seconds."""
    ttl, loop_wait, retry = (
        int(re.findall(rf"^ +{name}: (\d+)$", CONFIG, re.MULTILINE)[0])
        for name in ("ttl", "loop_wait", "retry_timeout")
    )
    assert loop_wait + 2 * retry <= ttl >= 20
    assert f"after about {ttl} seconds" in PAGE


def test_its_dsn_names_every_node() -> None:
    """The DSN names all nodes, the configured one included, and selects the node that writes."""
    [url] = re.findall(r"ESC_DATABASE_URL='(.*)'", PAGE)
    parts = conninfo_to_dict(url)
    hosts = str(parts["host"]).split(",")
    assert 3 == len(hosts)
    assert f"listen: {hosts[0]}:5432" in CONFIG
    assert "read-write" == parts["target_session_attrs"]
    assert parts["connect_timeout"] == arguments(url)["connect_timeout"]


def test_each_parameter_is_explained() -> None:
    """The table under the DSN explains each of its parameters."""
    [url] = re.findall(r"ESC_DATABASE_URL='(.*)'", PAGE)
    named = re.findall(r"`([a-z_*]+)(?:=[\w-]+)?`", PAGE.partition("| parameter | why |")[2].partition("\n\n")[0])
    for name in re.findall(r"[?&](\w+)=", url):
        assert any(re.fullmatch(known.replace("*", r"\w+"), name) for known in named), name
