"""The schedules of an engine, which it loads again and again beside its ticks. What was loaded last stays."""

import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attrs

from ..errors import EscalationError, InvalidValue, SchedulesError, error_place, shortened
from ..ports import CalendarReader, Schedule, ScheduleSource, Store
from ..rules.coverage import runs_out
from ..rules.on_call import check_digest, ends_program
from ..rules.wall_clock import later
from .tasks import BackgroundTask, gather, monotonic, was_cancelled, within

log = logging.getLogger("escalation_core")

LOAD_TIMEOUT = timedelta(seconds=30)
"""How long a source may load."""
FIRST_WAIT = timedelta(seconds=10)
"""How long a tick waits for the first load, and for one of a new file. After that they are unknown until they come."""
REFRESH = timedelta(minutes=5)
"""How long after a load the next one starts, give or take a tenth: the workers do not load all at once."""
MAX_FAULT_CHARS = 1000
"""How long the text about one source may be in the log and in health."""
ENDS_SOON = timedelta(days=7)
"""How long before the end of what a schedule knows health and the log begin to warn."""
_PROBES = tuple(timedelta(hours=hours) for hours in range(1, 25))
"""How long ago: for these instants a schedule must not change its answers while its digest stays the same."""


Load = Callable[[], Coroutine[Any, Any, Mapping[str, Schedule]]]


@attrs.frozen
class Loaded:
    """A schedule as a source loaded it."""

    schedule: Schedule
    source: int
    at: float
    """When it was loaded, by the loop's clock."""
    digest: str
    horizon: datetime
    past: Mapping[datetime, frozenset[str]]
    """What it answered about the day before."""
    runs_out: datetime | None = None
    """From when on it names no one, if that is soon: its last shift ends then."""

    def ends_soon(self, now: datetime) -> bool:
        """Return whether it is soon not known who is on call."""
        return self.horizon - now < ENDS_SOON


@attrs.frozen(kw_only=True)
class ScheduleHealth:
    """What health says about one schedule of a source."""

    age: float
    """Seconds since it was loaded."""
    horizon: datetime
    ends_soon: bool
    """Whether it ends within a week."""
    runs_out: datetime | None = None
    """From when on it names no one, if that is within a week of its load; None if it goes on."""

    def warning(self, name: str) -> str | None:
        """Return a warning if it is soon not known who is on call, or no one is any more."""
        if self.ends_soon:
            return f"schedule {name!r} ends at {self.horizon.isoformat()}: from then on it is not known who is on call"
        if self.runs_out is not None:
            since = self.runs_out.isoformat()
            return f"schedule {name!r} has no shift after {since}: from then on no one is on call; add shifts"
        return None


@attrs.define
class ScheduleLoader:
    """Loads the sources of schedules. A source that fails, hangs or answers nonsense changes nothing."""

    sources: Sequence[ScheduleSource] = ()
    """The host's own sources."""
    calendars: CalendarReader | None = None
    """Reads the calendars of the policies file, as one more source."""
    places: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """The calendars of the policies file in force: their paths or URLs by name."""
    loaded: dict[str, Loaded] = attrs.field(factory=dict)
    faults: dict[int, str] = attrs.field(factory=dict)
    """What is wrong with a source, by its number."""
    _load_task: BackgroundTask = attrs.field(factory=BackgroundTask)
    _next: float | None = None
    """When the next load starts; None: at once, because there was none yet, or the policies file has changed."""
    _waits: bool = False
    """Whether every call of ``keep_loaded`` waits for the load that is running."""
    _ending: dict[str, str] = attrs.field(factory=dict)
    """What the log has said about schedules that end soon."""
    _file: int = 0
    """Counts the policies files. A load that began before the last one brings calendars of the one before."""

    def use_sources(self, sources: object, calendars: CalendarReader | None) -> None:
        """Load these from now on.

        Raises:
            InvalidValue: the sources or the reader of calendars are not valid.
        """
        if calendars is not None and not isinstance(calendars, CalendarReader):
            remedy = "give an object with async def load(calendars), for example FileCalendars(folder)"
            raise InvalidValue("calendars", "is not a valid reader of calendars", remedy)
        self.sources, self.calendars = _check_sources(sources), calendars

    def snapshot(self) -> Mapping[str, Schedule]:
        """Return the schedules as they were loaded last, by name."""
        return {name: one.schedule for name, one in self.loaded.items()}

    def use_calendars(self, places: Mapping[str, str]) -> None:
        """Use the calendars of a new policies file: forget those that it no longer names, and load at the next tick."""
        for name in set(self.places).difference(places):
            self.loaded.pop(name, None)
        self.faults.pop(len(self.sources), None)
        self.places = places
        self._next = None
        self._file += 1

    async def keep_loaded(self, store: Store) -> None:
        """Start to load the sources if it is time.

        The call waits for them, and not for long, if there was no load yet, if the policies file has changed, or if the
        last load was due long ago, as in a process that does not tick.
        """
        if not self._loads():
            return
        if self._next is None or monotonic() >= self._next:
            self._waits = self._next is None or monotonic() >= self._next + REFRESH.total_seconds()
            if self._next is None:
                await self._load_task.end()
            now = await store.read(lambda tx: tx.now())
            jitter = random.uniform(0.9, 1.1)  # noqa: S311 - the jitter need not be secret
            self._next = monotonic() + REFRESH.total_seconds() * jitter
            self._load_task.start(partial(self.refresh, now))
        if self._waits:
            try:
                await within(FIRST_WAIT, self._load_task.ended())
            except TimeoutError:
                log.warning("the schedules are not loaded yet: until then it is not known who is on call")
            self._waits = False

    async def refresh(self, now: datetime) -> None:
        """Load all sources at once, and keep what is sound. ``now`` is the store's instant."""
        await gather(*(self._load(number, name, load, now) for number, (name, load) in enumerate(self._loads())))

        ending = {name: said for name, one in self.health(now).items() if (said := one.warning(name)) is not None}
        for name in sorted(ending.keys() - self._ending.keys()):
            log.warning("%s", ending[name])
        self._ending = ending

    def _loads(self) -> Sequence[tuple[str, Load]]:
        """Return what to call each source, and how to load it. The calendars of the policies file come last."""
        found: list[tuple[str, Load]] = [(_name(source), source.load) for source in self.sources]
        if self.calendars is not None and self.places:
            found.append(("the policies file", partial(self.calendars.load, self.places)))
        return found

    async def _load(self, number: int, name: str, load: Load, now: datetime) -> None:
        file, before = self._file, self.faults.get(number)
        found, problems = await _ask(load)
        if file != self._file and number == len(self.sources):
            # The policies file has changed meanwhile, and these are calendars of the one before.
            return
        problems = [*self._keep(number, found, now, whole=not problems), *problems]
        if not problems:
            if self.faults.pop(number, None) is not None:
                log.info("the schedules of %s are loaded again", name)
            return
        self.faults[number] = shortened(f"{name}: {'; '.join(problems)}", MAX_FAULT_CHARS)
        if self.faults[number] != before:
            log.error("schedules could not be loaded; what was loaded before stays: %s", self.faults[number])

    def _keep(self, number: int, found: Mapping[str, object], now: datetime, *, whole: bool) -> list[str]:
        """Keep the sound schedules of a source, and return what is wrong with the others."""
        if not isinstance(found, Mapping):
            return [f"it returned {type(found).__name__}, which is not a mapping of names to schedules"]
        problems = self._missing(number, found) if whole else []
        for name, schedule in found.items():
            try:
                problem = self._fault(number, name, schedule, now)
                if problem is None and isinstance(schedule, Schedule):
                    past = {now - ago: schedule.on_call(now - ago) for ago in _PROBES}
                    horizon = schedule.horizon.astimezone(UTC)
                    until = runs_out(schedule, now, later(now, ENDS_SOON))
                    self.loaded[name] = Loaded(schedule, number, monotonic(), schedule.digest, horizon, past, until)
            except InvalidValue as fault:
                problem = f"is refused: {fault}"
            except BaseException as error:
                # A host's schedule may raise anything.
                if ends_program(error):
                    raise
                problem = f"raised {error_place(error)}"
            if problem is not None:
                problems.append(f"schedule {name!r} {problem}")
        return problems

    def _fault(self, number: int, name: str, schedule: object, now: datetime) -> str | None:
        if not isinstance(name, str) or not name:
            return "has a name that is not text"
        if not isinstance(schedule, Schedule):
            return "is not a schedule"
        check_digest(schedule.digest)
        if not isinstance(schedule.on_call(now), frozenset):
            return "returns something other than a frozenset of people from on_call"
        schedule.next_change(now)
        before = self.loaded.get(name)
        if before is not None and before.source < number:
            return f"has the name of a schedule of {_name(self.sources[before.source])}"
        if schedule.horizon <= now:
            return f"ends at {schedule.horizon.isoformat()}, which is over: it is old"
        if before is not None and schedule.horizon < before.horizon:
            known = before.horizon.isoformat()
            return (
                f"ends at {schedule.horizon.isoformat()}, and was known until {known}: it is old, or restart to use it"
            )
        return None if before is None else _changed(schedule, before)

    def _missing(self, number: int, found: Mapping[str, object]) -> list[str]:
        """Return a problem for each schedule that the source had before."""
        before = [name for name, one in self.loaded.items() if one.source == number]
        return [f"schedule {name!r} is not there any more" for name in before if name not in found]

    @property
    def was_loaded(self) -> bool:
        """Whether the sources were loaded, or tried to."""
        return bool(self.loaded or self.faults)

    def health(self, now: datetime) -> Mapping[str, ScheduleHealth]:
        """Return how old each schedule is, and when it ends. ``now`` is the store's instant."""
        return {
            name: ScheduleHealth(
                age=monotonic() - one.at,
                horizon=one.horizon,
                ends_soon=one.ends_soon(now),
                runs_out=one.runs_out,
            )
            for name, one in self.loaded.items()
        }

    async def aclose(self) -> None:
        """Cancel a load that is running."""
        await self._load_task.end()


async def _ask(load: Load) -> tuple[Mapping[str, object], list[str]]:
    """Return what a source loads, and what is wrong."""
    try:
        return await within(LOAD_TIMEOUT, load()), []
    except SchedulesError as error:
        return error.loaded, [f"schedule {name!r} {problem}" for name, problem in error.problems.items()]
    except TimeoutError:
        return {}, [f"it has not answered for {LOAD_TIMEOUT.total_seconds():g} seconds"]
    except EscalationError as error:
        return {}, [str(error)]
    except BaseException as error:
        # A host's source may raise anything, and the engine must go on. A CancelledError of a task that the source has
        # awaited is a fault of the source.
        if was_cancelled(error) or ends_program(error):
            raise
        return {}, [f"it raised {error_place(error)}"]


def _check_sources(value: object) -> tuple[ScheduleSource, ...]:
    if not isinstance(value, Sequence) or not all(isinstance(each, ScheduleSource) for each in value):
        raise InvalidValue(
            "schedules", "is not a valid list of sources", "give a list of objects with async def load()"
        )
    return tuple(value)


def _changed(schedule: Schedule, before: Loaded) -> str | None:
    """Return why a schedule changes its mind about the past without another digest; None if it does not."""
    if before.digest != schedule.digest:
        return None
    for at, people in before.past.items():
        if schedule.on_call(at) != people:
            if before.schedule is schedule:
                return f"has changed its answer about {at.isoformat()}: a load must return a new object"
            return f"has the same digest, but another answer about {at.isoformat()}: it must not change"
    return None


def _name(source: ScheduleSource) -> str:
    """Return what to call a source: its own ``name`` if it has one, else its type."""
    try:
        name = getattr(source, "name", None)
    except Exception:  # noqa: BLE001 - it is a host's property
        name = None
    return name if isinstance(name, str) else type(source).__name__
