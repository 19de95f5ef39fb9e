"""From due to delivered: 10,000 incidents, one page each, to a web server; compared with other systems."""

import statistics
from typing import Any

from rich.progress import Progress

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_core import Delivered, Engine, Outcome, Page, RetryPolicy, Settings

from . import peers
from .ground import DUE, Ground, child, peak_megabytes, stopwatch, under, when_told
from .results import Ratio, Result, median_ratio, spread
from .sink import sink
from .tick import ROW_AT_A_TIME, rate_of_row_at_a_time

UVLOOP = "engine, uvloop"
AT_ONCE = "engine, uvloop, pages taken at once without HTTP"
HTTP = "aiohttp with uvloop, no engine and no database"
"""The rate of the HTTP client without an engine, which no engine can exceed."""
ALERTMANAGER = "Alertmanager"
PER_TARGET = 256
"""The engine's RetryPolicy.per_target, 32 by default: with more, more pages settle in one transaction."""


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure each way in turns."""
    due, rounds = (2_000, 3) if quick else (10_000, 3)
    rows = (DUE.format(due=due),)
    others = () if quick else (*peers.JOBS, ALERTMANAGER)
    ways = ["engine", UVLOOP, AT_ONCE, HTTP, ROW_AT_A_TIME, *others]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    task = progress.add_task("end to end", total=rounds * len(ways))
    for _ in range(rounds):
        for way in ways:
            with ground.database(*rows) as dsn, sink() as receiver:
                count = due // 5 if way == ROW_AT_A_TIME else due
                if way == ALERTMANAGER:
                    runs[way].append(peers.rate_of_alertmanager(receiver.url, count, receiver.count))
                else:
                    part = "peers" if way in peers.JOBS else "endtoend"
                    runs[way].append(child(part, way=way, dsn=dsn, url=receiver.url, count=count))
                if way != AT_ONCE and (took := receiver.count()) != count:
                    raise SystemExit(f"{way}: {took} of {count} pages arrived")
            progress.advance(task)
    progress.remove_task(task)
    rates = {way: [one["rate"] for one in found] for way, found in runs.items()}
    cpu = {way: [one["cpu"] for one in found if "cpu" in one] for way, found in runs.items()}
    memory = {way: max(one["megabytes"] for one in found) for way, found in runs.items()}
    ours = rates[UVLOOP]
    faster = median_ratio(ours, rates[ROW_AT_A_TIME])
    ratios = [Ratio(name=f"end to end, times the {ROW_AT_A_TIME}", value=faster, least=8)]
    if others:
        lighter = memory[UVLOOP] / memory[ALERTMANAGER]
        ratios += [
            Ratio(name="end to end, times pgqueuer", value=median_ratio(ours, rates["pgqueuer"]), least=1.2),
            Ratio(
                name="end to end, times Alertmanager", value=median_ratio(ours, rates[ALERTMANAGER]), least=0.8, aim=1.5
            ),
            Ratio(name="memory, of Alertmanager's", value=lighter, most=0.5),
        ]
    return Result(
        name="endtoend",
        title=f"{due:,} incidents from due to delivered, one process, a local web server, {PER_TARGET} at once",
        columns=("what", "pages/s", "client CPU µs each", "peak MB"),
        rows=[
            [
                way,
                f"{statistics.median(rates[way]):,.0f}",
                f"{statistics.median(cpu[way]):.0f}" if cpu[way] else "",
                f"{memory[way]:.0f}",
            ]
            for way in ways
        ],
        ratios=ratios,
        notes=[where_the_time_goes({way: statistics.median(found) for way, found in cpu.items() if found}, rates)],
        data={
            way: {"rate": spread(rates[way]), "megabytes": memory[way]}
            | ({"cpu": spread(cpu[way])} if cpu[way] else {})
            for way in ways
        },
    )


def where_the_time_goes(cpu: dict[str, float], rates: dict[str, list[float]]) -> str:
    """Describe the parts of a page's processor time, and the greatest rate that HTTP allows."""
    whole, http, engine = cpu[UVLOOP], cpu[HTTP], cpu[AT_ONCE]
    bound, free = (median_ratio(rates[way], rates[ROW_AT_A_TIME]) for way in (HTTP, AT_ONCE))
    note = (
        f"A page costs this process {whole:.0f} µs of processor time. A process in which aiohttp only posts the same"
        f" bytes needs {http:.0f} µs. An engine whose notifier takes pages at once needs {engine:.0f} µs. The other"
        f" {whole - http - engine:.0f} µs are time limits, traces, checks of replies, and the effect of the two on each"
        f" other. aiohttp alone has {bound:.1f} times the rate of the {ROW_AT_A_TIME}. The engine without HTTP, but"
        f" with its two durable writes for each page, has {free:.1f} times that rate"
    )
    if ALERTMANAGER not in rates:
        return note + "."
    beside = [median_ratio(rates[AT_ONCE], rates[other]) for other in ("pgqueuer", ALERTMANAGER)]
    return note + (
        f", {beside[0]:.1f} times the rate of pgqueuer and {beside[1]:.1f} times that of Alertmanager, both with HTTP."
    )


def in_child(way: str, dsn: str, url: str, count: int) -> dict[str, Any]:
    """Deliver the pages in one of the ways."""
    if way == ROW_AT_A_TIME:
        return rate_of_row_at_a_time(dsn, count, url)
    work = peers.post_all(url, count) if way == HTTP else deliver(dsn, url, count, taken_at_once=way == AT_ONCE)
    seconds, cpu = under("asyncio" if way == "engine" else "uvloop", work)
    return {"rate": count / seconds, "cpu": cpu / count * 1e6, "megabytes": peak_megabytes()}


async def deliver(dsn: str, url: str, count: int, *, taken_at_once: bool) -> tuple[float, float]:
    """Let one engine tick once, which delivers as well; return the seconds of wall clock and of processor."""
    settings = Settings(allow_http=True, retry=RetryPolicy(per_target=PER_TARGET))
    notifier = Taker() if taken_at_once else SlackNotifier({"slack:ops": url}, allow_http=True)
    async with Engine(await PostgresStore.connect(dsn), settings=settings, notifiers=[notifier]) as engine:
        when_told()
        wall, cpu = stopwatch()
        report = await engine.tick()
        wall, cpu = stopwatch()[0] - wall, stopwatch()[1] - cpu
    if report.delivery is None or report.delivery.delivered != count:
        raise SystemExit(f"delivered {report.delivery} of {count}")
    return wall, cpu


class Taker:
    """A notifier that takes each page at once, so that only the engine's own work is measured."""

    channel = "taker"
    targets = ("slack:ops",)

    async def send(self, _: Page) -> Outcome:
        """Take the page."""
        return Delivered()

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""
