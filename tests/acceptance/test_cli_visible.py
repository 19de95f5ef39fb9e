"""The commands that show delivery: ``pages``, the targets of ``health``, and incidents that are unheard."""

import asyncio
import shlex
from datetime import timedelta

import pytest

from escalation_adapters.channels.slack_text import render_bundle
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Budget, Bundle, Engine, Settings
from escalation_core.testing import BundlingNotifier

from .console import Console, ago, told

UNHEARD = "1 open incident is unheard: no page of its highest level was delivered, and none is tried again"

HOOKS = '{"slack:ops": "https://hooks.slack.com/services/x", "slack:b": "https://hooks.slack.com/services/y"}'


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def opened(console: Console) -> None:
    """Open three incidents whose pages wait, and one whose page has no target."""
    for key in ("a", "b", "c"):
        told(console("open", key, "--severity", "critical", "--first-seen", ago(30)))
    told(console("tick", "--record-only"))
    told(console("open", "silent", "--severity", "critical", "--first-seen", ago(30)))
    routed = {"ESC_TARGETS": HOOKS}
    assert 0 == console("tick", "--record-only", **routed).code


def test_pages_that_wait(on_sqlite: Console) -> None:
    """``pages`` has the pages that wait, by id, in parts; with a state, those in it; with a target, those to it."""
    assert "no page waits\n" == told(on_sqlite("pages"))
    opened(on_sqlite)
    header, *lines = rows(told(on_sqlite("pages")))
    assert ["id", "incident", "episode", "level", "target", "state", "attempts", "due", "reason", "bundle"] == header
    assert [["a", "1", "1", "log", "pending", "0"], ["b", "1", "1", "log", "pending", "0"]] == [
        line[1:7] for line in lines[:2]
    ]
    assert 3 == len(lines)
    assert lines[0][7].endswith("Z")
    part = on_sqlite("pages", "--limit", "2")
    assert [line[1] for line in rows(part.out)[1:]] == ["a", "b"]
    assert f"there are more: give the same options, and --after {lines[1][0]}" == part.complaints[-1]
    rest = on_sqlite("pages", "--limit", "2", "--after", lines[1][0])
    assert (["c"], []) == ([line[1] for line in rows(rest.out)[1:]], rest.complaints)
    [dead] = rows(told(on_sqlite("pages", "--state", "dead")))[1:]
    assert ("silent", "", "dead") == (dead[1], dead[4], dead[5])
    assert dead[8].startswith("unroutable")
    assert "no page waits\n" == told(on_sqlite("pages", "--target", "slack:ops"))
    assert "no handed_over pages\n" == told(on_sqlite("pages", "--state", "handed_over"))
    found = on_sqlite("pages", "--target", "log", "--limit", "1", "--json").json
    assert [("a", "log", "pending", 0)] == [
        (one["incident_key"], one["target"], one["state"], one["priority"]) for one in found
    ]


async def bundled(path: str) -> Bundle:
    """Deliver a bundle of 70 pages."""
    notifier = BundlingNotifier("ops")
    async with Engine(
        await SQLiteStore.connect(path), settings=Settings(budgets={"ops": Budget(rate=1)}), notifiers=[notifier]
    ) as engine:
        began = await engine.now() - timedelta(minutes=30)
        for number in range(70):
            severity = "critical" if number >= 40 else "warning"
            await engine.open(f"k{number:02}", severity=severity, first_seen=began)
        await engine.tick()
    [bundle] = notifier.bundles
    return bundle


def test_the_command_that_a_bundle_names_lists_all_of_its_pages(on_sqlite: Console) -> None:
    """The last line of Slack's message, run as it is, lists the pages in the order of the message, and no more."""
    bundle = asyncio.run(bundled(on_sqlite.env["ESC_DATABASE_URL"].removeprefix("sqlite:///")))
    said, command = render_bundle(bundle).splitlines()[-1].split(": ", 1)
    assert "All of them" == said
    program, *words = shlex.split(command)
    assert "escalation" == program
    found = on_sqlite(*words)
    header, *lines = rows(told(found))
    assert [page.incident.incident_key for page in bundle.pages] == [line[1] for line in lines]
    assert "k40" == lines[0][1]
    short = bundle.dedup_key[:12]
    assert {short} == {line[header.index("bundle")] for line in lines}
    assert found.out == told(on_sqlite("pages", "--bundle", short))
    part = on_sqlite("pages", "--bundle", short, "--limit", "2")
    assert f"there are more: give the same options, and --after {lines[1][0]}" == part.complaints[-1]
    shown = [line for line in rows(told(on_sqlite("show", "k40"))) if line[-1] == short]
    assert [[lines[0][0], "1", "1", "ops", "delivered"]] == [line[:5] for line in shown]
    assert "no pages in this bundle\n" == told(on_sqlite("pages", "--bundle", "0" * 64))
    refused = on_sqlite("pages", "--bundle", "0" * 7)
    assert "bundle: is not the key of a bundle" in refused.err


def test_a_state_that_no_page_has_is_refused(on_sqlite: Console) -> None:
    """The refusal names the legal states."""
    told(on_sqlite("open", "k"))
    refused = on_sqlite("pages", "--state", "sent")
    assert 2 == refused.code
    legal = ("pending", "leased", "cancelling", "delivered", "cancelled", "superseded", "handed_over", "dead")
    assert f"'sent' is not one of {', '.join(map(repr, legal))}" in refused.err


def test_unheard_incidents_are_everywhere(on_sqlite: Console) -> None:
    """``list``, ``list --unheard``, ``show`` and ``health`` say which incident is unheard, until it is acknowledged."""
    told(on_sqlite("open", "k"))
    assert "no open incident matches, or none follows\n" == told(on_sqlite("list", "--unheard"))
    opened(on_sqlite)
    [line] = rows(told(on_sqlite("list", "--unheard")))[1:]
    assert ("silent", "UNHEARD: ") == (line[0], line[5][:9])
    assert 1 == on_sqlite("list").out.count("UNHEARD: ")
    found = on_sqlite("list", "--json").json["incidents"]
    assert ["silent"] == [one["incident_key"] for one in found if one["unheard"]]
    shown = on_sqlite("show", "silent")
    assert "UNHEARD\tno page of its highest level was delivered, and none is tried again" in shown.lines
    assert on_sqlite("show", "silent", "--json").json["unheard"]
    assert "UNHEARD" not in on_sqlite("show", "a").out
    health = on_sqlite("health")
    assert (1, f"NOT OK: {UNHEARD}; mode open") == (health.code, health.lines[0])
    assert any(line.startswith(f"warning: {UNHEARD}; see escalation list --unheard") for line in health.complaints)
    told(on_sqlite("ack", "silent"))
    assert "no open incident matches, or none follows\n" == told(on_sqlite("list", "--unheard"))
    assert 0 == on_sqlite("health").code


def test_health_has_a_table_of_targets(on_sqlite: Console) -> None:
    """The targets to which pages wait come first, each with its budget and its fallback."""
    opened(on_sqlite)
    settings = {
        "ESC_TARGETS": HOOKS,
        "ESC_FALLBACKS": '{"slack:b": "slack:ops"}',
    }
    health = on_sqlite("health", **settings)
    lines = rows(health.out)
    first = next(number for number, line in enumerate(lines) if line[0] == "target")
    assert [
        "target",
        "waiting",
        "oldest",
        "budget",
        "throttled until",
        "last success",
        "last error",
        "error",
        "fallback",
    ] == lines[first]
    waiting, slack_b, slack_ops = lines[first + 1 :]
    assert ["log", "3"] == waiting[:2]
    assert waiting[2].endswith("Z")
    assert ["slack:b", "0", "", "1 a second, burst 3", "", "", "", "", "slack:ops"] == slack_b
    assert ["slack:ops", "0", "", "1 a second, burst 3", "", "", "", "", ""] == slack_ops
    assert 0 == on_sqlite("tick").code
    found = on_sqlite("health", "--json").json["targets"]["log"]
    assert (0, None) == (found["backlog"], found["lastFailedAt"])
    assert found["lastDeliveredAt"] is not None


@pytest.mark.parametrize("count", [29, 30])
def test_many_targets(on_sqlite: Console, count: int) -> None:
    """The table has at most 30 targets, and says how many are left out."""
    told(on_sqlite("open", "k"))
    hooks = ", ".join(f'"slack:{number:02}": "https://slack.example.test/{number}"' for number in range(count))
    health = on_sqlite("health", ESC_TARGETS=f"{{{hooks}}}", ESC_DEFAULT_TARGET="slack:00")
    lines = [line for line in health.lines if line.startswith(("log\t", "slack:"))]
    assert 30 == len(lines)
    more = [line for line in health.complaints if line == "1 more targets: escalation health --json"]
    assert count - 29 == len(more)
