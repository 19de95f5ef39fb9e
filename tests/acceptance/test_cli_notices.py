"""The command ``notices``, and the notices of ``show`` and ``health``."""

import asyncio
import shlex
from datetime import timedelta

from escalation_adapters.channels.slack_notices import render_notices
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Abilities, Budget, Bundle, Delivered, Engine, NoticeBundle, Outcome, Rejected, Settings
from escalation_core.model import EVERY_KIND
from escalation_core.testing import TellingNotifier

from .console import Console, ago, told

TO_THE_LOG = {"ESC_NOTICES": '{"log": ["acknowledged", "resolved"]}'}


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_notices_are_listed(on_sqlite: Console) -> None:
    """By id, in parts; with a state, those in it; with a target, those to it. ``show`` has those of its incident."""
    assert "no notices\n" == told(on_sqlite("notices"))
    for key in ("a", "b"):
        told(on_sqlite("open", key, "--severity", "critical", "--first-seen", ago(30)))
    assert 0 == on_sqlite("tick", **TO_THE_LOG).code
    told(on_sqlite("ack", "a", "--by", "ann"))
    told(on_sqlite("resolve", "a", "--by", "bob"))
    told(on_sqlite("resolve", "b", "--by", "bob"))
    ticked = on_sqlite("tick", **TO_THE_LOG)
    assert "notices_delivered 3" in ticked.out
    header, *lines = rows(told(on_sqlite("notices")))
    assert ["id", "incident", "episode", "kind", "target", "state", "attempts"] == header[:7]
    assert [["a", "1", "acknowledged", "log"], ["a", "1", "resolved", "log"], ["b", "1", "resolved", "log"]] == [
        line[1:5] for line in lines
    ]
    assert ["ann", "bob", "bob"] == [line[header.index("who")] for line in lines]
    part = on_sqlite("notices", "--limit", "2")
    assert f"there are more: give the same options, and --after {lines[1][0]}" == part.complaints[-1]
    rest = on_sqlite("notices", "--limit", "2", "--after", lines[1][0])
    assert (["b"], []) == ([line[1] for line in rows(rest.out)[1:]], rest.complaints)
    assert "no dead notices\n" == told(on_sqlite("notices", "--state", "dead"))
    assert "no notices\n" == told(on_sqlite("notices", "--target", "slack:ops"))
    [one] = on_sqlite("notices", "--limit", "1", "--json").json
    assert ("a", "acknowledged", "delivered", "ann") == (one["incident_key"], one["kind"], one["state"], one["actor"])
    shown = told(on_sqlite("show", "a"))
    of_log = [line[2] for line in rows(shown) if line[3:5] == ["log", "delivered"]]
    assert ["1", "acknowledged", "resolved"] == of_log, "its page of level 1, and its notices"
    assert 2 == len(on_sqlite("show", "a", "--json").json["notices"])
    health = on_sqlite("health", "--json").json["notices"]
    assert {"pending": 0, "leased": 0, "delivered": 3, "dead": 0, "expired": 0} == health


class Bundling(TellingNotifier):
    """Sends bundles, and refuses single notices."""

    def __init__(self) -> None:
        super().__init__("ops", answer_notice=lambda notice: Rejected("one by one"))
        self.abilities = Abilities(
            bundles=True, notices=EVERY_KIND, asked=EVERY_KIND, budgets={"ops": Budget(rate=20, burst=20)}
        )
        self.bundles: list[NoticeBundle] = []

    async def send_bundle(self, _: Bundle) -> Outcome:
        return Delivered()

    async def tell_bundle(self, bundle: NoticeBundle) -> Outcome:
        self.bundles.append(bundle)
        return Delivered()


async def bundled(path: str) -> NoticeBundle:
    """Tell 70 notices in one message, and have one refused."""
    notifier = Bundling()
    settings = Settings(bundle_after=timedelta(seconds=1))
    async with Engine(await SQLiteStore.connect(path), settings=settings, notifiers=[notifier]) as engine:
        began = await engine.now() - timedelta(minutes=30)
        for number in range(71):
            await engine.open(f"k{number:02}", severity="critical", first_seen=began)
        await engine.tick()
        for number in range(70):
            await engine.resolve(f"k{number:02}")
        await engine.tick()
        await engine.resolve("k70")
        await engine.tick()
    [bundle] = notifier.bundles
    return bundle


def test_the_command_that_a_message_names_lists_all_of_its_notices(on_sqlite: Console) -> None:
    """The last line of Slack's message, run as it is. Health names the notices that were not told."""
    bundle = asyncio.run(bundled(on_sqlite.env["ESC_DATABASE_URL"].removeprefix("sqlite:///")))
    said, command = render_notices(bundle).splitlines()[-1].split(": ", 1)
    assert "All of them" == said
    program, *words = shlex.split(command)
    assert "escalation" == program
    _, *lines = rows(told(on_sqlite(*words)))
    assert [notice.incident_key for notice in bundle.notices] == [line[1] for line in lines]
    assert 70 == len(rows(told(on_sqlite("notices", "--bundle", bundle.dedup_key[:8])))[1:])
    assert "no notices\n" == told(on_sqlite("notices", "--bundle", "0" * 64))
    assert "bundle: is not the key of a bundle" in on_sqlite("notices", "--bundle", "xyz").err
    health = on_sqlite("health")
    assert "1 notices of the last day were not told; see escalation notices --state dead" in health.err


def test_config_check_shows_who_gets_notices(on_sqlite: Console) -> None:
    """By settings, or else by the notifier; and what a notifier cannot tell is a warning."""
    env = {
        "ESC_TARGETS": '{"slack:ops": "https://h/x", "pagerduty:db": "pagerduty://R0UT1NGK3Y0000000000000000000HUS"}',
        "ESC_DEFAULT_TARGET": "slack:ops",
        "ESC_NOTICES": '{"slack:ops": ["acknowledged"]}',
    }
    found = on_sqlite("config", "check", "--json", **env).json["targets"]
    assert {"log": [], "slack:ops": ["acknowledged"], "pagerduty:db": ["resolved"]} == {
        name: one["notices"] for name, one in found.items()
    }
    assert (True, False) == (found["slack:ops"]["bundles"], found["slack:ops"]["threads"])
    env["ESC_NOTICES"] = '{"pagerduty:db": ["ack_expired"]}'
    checked = on_sqlite("config", "check", **env)
    assert "pagerduty:db\tpagerduty\tthreads\t\n" in checked.out
    assert "pagerduty:db gets no notices ack_expired: its notifier cannot tell them" in checked.err
