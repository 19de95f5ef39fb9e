"""The commands about policies in force: their versions, and incidents that move to another version."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import attrs
import click

from escalation_core import Engine, InvalidValue, Policies, TransitionRefused
from escalation_core.checks import nearest
from escalation_core.engine.rebind_forecast import RebindForecast
from escalation_core.model import BUILTIN, By, Incident, Pin

from .base import Context, pass_context
from .output import Times, print_json, progress, say, table
from .params import actor_option, json_option, reason_option, utc_option
from .policy_table import as_json as policies_json
from .policy_table import print_policies

_BATCH = 1000


@attrs.frozen
class _InForce:
    """What ``policy show`` shows."""

    policies: Policies | None
    pins: dict[str, Counter[str]]
    """The unresolved incidents of each policy by the digest of their version."""
    workers: dict[str, int]
    """The workers by the digest of their policies file."""


@click.command("show")
@click.argument("name", required=False)
@json_option
@pass_context
def show(context: Context, name: str | None, as_json: bool) -> None:
    """Show the policies in force, or the policy NAME, and how many incidents are pinned to which version."""

    async def work(engine: Engine) -> tuple[_InForce, Engine]:
        policies = engine.policies
        names = [name] if name is not None else [*(policies.policies if policies is not None else ()), BUILTIN]
        pins = {each: await _pins(engine, each) for each in names}
        stats = (await engine.health()).policies.stats
        return _InForce(policies, pins, dict(stats.worker_digests)), engine

    found, engine = context.run(work)
    policies = found.policies
    if name is not None:
        known = [BUILTIN, *(policies.policies if policies is not None else ())]
        if name not in known and not found.pins[name]:
            fault = "is not in the policies file, and no incident is pinned to it"
            raise InvalidValue("policy", f"{name!r} {fault}", f"the nearest is {nearest(name, known)!r}")
        policies = None if policies is None else _only(policies, name)
    rows = [
        (policy, version[:12], "yes" if version == _version(found.policies, policy) else "no", count)
        for policy, versions in found.pins.items()
        for version, count in versions.most_common()
    ]
    if as_json:
        shown = None if policies is None else policies_json(policies, engine.settings.tick_interval, policies.warnings)
        print_json({"policies": shown, "pinned": found.pins, "workers": found.workers})
        return
    if policies is not None and policies.policies:
        print_policies(policies, engine.settings.tick_interval)
    elif name in (None, BUILTIN):
        say("the built-in policy: escalation config check shows its rhythm")
    else:
        say(f"{name} is not in the policies file; its incidents go on by the versions that they are pinned to")
    table(
        "Unresolved incidents by version",
        ("policy", "version", "in the file", "incidents"),
        rows,
        empty="no unresolved incident is pinned to " + ("one of these policies" if name is None else "it"),
    )


def _only(policies: Policies, name: str) -> Policies:
    """Return the policies without those of other names."""
    return Policies(
        policies={each: policy for each, policy in policies.policies.items() if each == name},
        assignments=tuple(each for each in policies.assignments if each.policy == name),
    )


def _version(policies: Policies | None, name: str) -> str | None:
    if name == BUILTIN:
        return ""
    policy = None if policies is None else policies.policies.get(name)
    return None if policy is None else policy.digest


async def _pinned(engine: Engine, name: str) -> Sequence[Incident]:
    """Return all unresolved incidents that are pinned to a policy."""
    found: list[Incident] = []
    while batch := await engine.pinned(name, after=found[-1].incident_key if found else None, limit=_BATCH):
        found += batch
    return found


async def _pins(engine: Engine, name: str) -> Counter[str]:
    pins = [Pin.parse(one.policy_pin) for one in await _pinned(engine, name)]
    return Counter(pin.digest for pin in pins if pin is not None)


@click.command("rebind")
@click.argument("name")
@click.option("--restart", is_flag=True, help="Begin each incident again at the first level of the policy.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@reason_option
@actor_option
@json_option
@pass_context
def rebind(
    context: Context, name: str, restart: bool, yes: bool, reason: str | None, by: str | None, as_json: bool
) -> None:
    """Give all incidents of older versions of the policy NAME its present version, after a question."""
    with context.opened() as ask:
        forecast, warning = ask(lambda engine: _forecast(engine, name, restart=restart))
        if not yes and forecast.older:
            click.echo(_question(forecast), err=True)
            if warning is not None:
                click.echo(f"warning: {warning}", err=True)
            click.confirm(f"Rebind them to version {forecast.version[:12]}?", abort=True, err=True)

        async def work(engine: Engine) -> tuple[int, Sequence[str]]:
            with progress("rebinding", forecast.older, quiet=as_json) as tell:
                return await _rebind(engine, forecast, tell, restart=restart, who=By(by, reason))

        done, refused = ask(work) if forecast.older else (0, ())
    if as_json:
        print_json({**attrs.asdict(forecast), "older": forecast.older, "rebound": done, "refused": list(refused)})
    else:
        click.echo(f"incidents rebound to {name} {forecast.version[:12]}: {done}")
        for line in refused:
            click.echo(f"left out: {line}", err=True)
    if refused:
        raise SystemExit(1)


async def _forecast(engine: Engine, name: str, *, restart: bool) -> tuple[RebindForecast, str | None]:
    """Return what the rebind would do, and a warning if the workers have other policies than this process."""
    forecast = await engine.forecast_rebind(name, restart=restart)
    files = (await engine.health()).policies.stats.worker_digests
    differs = files and engine.policies is not None and engine.policies.digest not in files
    return forecast, "no worker runs the policies file of this command" if differs else None


async def _rebind(
    engine: Engine, forecast: RebindForecast, tell: Callable[[int], None], *, restart: bool, who: By
) -> tuple[int, Sequence[str]]:
    """Rebind each incident in a transaction of its own; return how many, and why others were left out."""
    done, refused = 0, []
    for incident in await _pinned(engine, forecast.policy):
        pin = Pin.parse(incident.policy_pin)
        if pin is None or pin.digest == forecast.version:
            continue
        try:
            await engine.rebind(incident.incident_key, restart=restart, reason=who.reason, by=who.actor)
            done += 1
        except (TransitionRefused, InvalidValue) as error:  # resolved or changed since the forecast
            refused.append(str(error))
        tell(done + len(refused))
    return done, refused


def _question(forecast: RebindForecast) -> str:
    return (
        f"{forecast.older} incidents are pinned to older versions of {forecast.policy}."
        f" After the rebind {forecast.pages} of them escalate within a tick interval,"
        f" and {forecast.restarts} begin again at the first level."
    )


@click.command("reload")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def reload(context: Context, reason: str | None, by: str | None, utc: bool, as_json: bool) -> None:
    """Ask all workers to read their policies file again. Incidents stay with the version that they are pinned to."""

    async def work(engine: Engine) -> datetime:
        return await engine.request_reload(reason=reason, by=by)

    at = context.run(work, plugins=False)
    if as_json:
        print_json({"requested_at": at})
        return
    said = f"asked at {Times(at, utc).at(at)}; each worker reads its file after its next heartbeat"
    click.echo(f"{said}. If a file is faulty, the worker says so in its log, and the file of before stays in force")
