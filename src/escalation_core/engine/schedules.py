"""The schedules of an engine, which it loads again and again beside its ticks. What was loaded last stays."""

import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import attrs

from ..errors import EscalationError, InvalidValue, SchedulesError, StoreError, error_place, shortened
from ..ports import CalendarReader, Schedule, ScheduleSource, Store
from ..rules.on_call import ends_program
from .loaded import Loaded, Origin, ScheduleHealth, sound
from .tasks import BackgroundTask, gather, gather_few, monotonic, was_cancelled, within

log = logging.getLogger("escalation_core")

LOAD_TIMEOUT = timedelta(seconds=30)
"""How long a source, or a calendar, may load."""
FIRST_WAIT = timedelta(seconds=10)
"""How long a tick waits for the first load, and for one of a new file. After that they are unknown until they come."""
REFRESH = timedelta(minutes=5)
"""How long after a load the next one starts, give or take a tenth: the workers do not load all at once."""
AT_ONCE = 4
"""How many calendars are loaded at the same time: each may take a process."""
MAX_FAULT_CHARS = 1000
"""How long the text about one source may be in the log and in health."""
_FILE = "the policies file"


@attrs.frozen
class _Source:
    """One thing to load: a source of the host, or one calendar of the policies file."""

    key: int | str
    """The number of a source, or the name of a calendar."""
    name: str
    origin: Origin
    load: Callable[[], Coroutine[Any, Any, Mapping[str, Schedule]]]


@attrs.define
class ScheduleLoader:
    """Loads the sources of schedules. A source that fails, hangs or answers nonsense changes nothing."""

    sources: Sequence[ScheduleSource] = ()
    """The host's own sources."""
    calendars: CalendarReader | None = None
    """Reads the calendars of the policies file."""
    places: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """The calendars of the policies file in force: their paths or URLs by name."""
    loaded: dict[str, Loaded] = attrs.field(factory=dict)
    faults: dict[int | str, str] = attrs.field(factory=dict)
    """What is wrong with a source, by its number, or with a calendar, by its name."""
    _load_task: BackgroundTask = attrs.field(factory=BackgroundTask)
    _next: float | None = None
    """When the next load starts; None: at once, because there was none yet, or the policies file has changed."""
    _waits: bool = False
    """Whether every call of ``keep_loaded`` waits for the load that is running."""
    _ending: dict[str, str] = attrs.field(factory=dict)
    """What the log has said about schedules that end soon."""

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
        """Use the calendars of a new policies file, and load at the next tick.

        Calendars that the file no longer names, or has at another place, are forgotten.
        """
        for name, place in self.places.items():
            if places.get(name) != place:
                self.faults.pop(name, None)
                if name in self.loaded and self.loaded[name].origin[1] is not None:
                    del self.loaded[name]
        self.places = places
        self._next = None

    async def keep_loaded(self, store: Store) -> None:
        """Start to load the sources if it is time.

        The call waits for them, and not for long, if there was no load yet, if the policies file has changed, or if the
        last load was due long ago, as in a process that does not tick.
        """
        if not self._all():
            return
        while self._next is None and self._load_task.busy:
            await self._load_task.end()
        # Between this and the start nothing is awaited, so no other call comes in between.
        if self._next is None or monotonic() >= self._next:
            self._waits = self._next is None or monotonic() >= self._next + REFRESH.total_seconds()
            self._load_task.start(partial(self._refresh_now, store))
            self._plan_next()
        if self._waits:
            try:
                await within(FIRST_WAIT, self._load_task.ended())
            except TimeoutError:
                log.warning(
                    "not all schedules are loaded yet, of %s: until then it is not known who is on call",
                    ", ".join(self._waited_for()),
                )
            self._waits = False

    async def load_now(self, now: datetime) -> None:
        """Load all sources, and wait for them to the end. ``now`` is the store's instant."""
        await self._load_task.ended()  # a load that began earlier may not see what has changed since
        self._load_task.start(partial(self.refresh, now))
        self._plan_next()
        await self._load_task.ended()

    def _plan_next(self) -> None:
        jitter = random.uniform(0.9, 1.1)  # noqa: S311 - the jitter need not be secret
        self._next = monotonic() + REFRESH.total_seconds() * jitter

    async def _refresh_now(self, store: Store) -> None:
        try:
            now = await store.read(lambda tx: tx.now())
        except StoreError:
            self._next = None  # the next call, whose own work fails as well while the store is down, tries again
            return
        await self.refresh(now)

    async def refresh(self, now: datetime) -> None:
        """Load all sources at once, and keep what is sound. ``now`` is the store's instant."""
        every = self._all()
        hosts = [self._load(one, now) for one in every if one.origin[1] is None]
        calendars = [partial(self._load, one, now) for one in every if one.origin[1] is not None]
        await gather(*hosts, gather_few(AT_ONCE, calendars))
        ending = {name: said for name, one in self.health(now).items() if (said := one.warning(name)) is not None}
        for name in sorted(ending.keys() - self._ending.keys()):
            log.warning("%s", ending[name])
        self._ending = ending

    def _all(self) -> Sequence[_Source]:
        """Return what is to be loaded: the host's sources, and then each calendar by itself."""
        hosts = [_Source(n, _name(one), (n, None), one.load) for n, one in enumerate(self.sources)]
        if self.calendars is None:
            return hosts
        last, read = len(hosts), self.calendars.load
        return [*hosts, *(_Source(n, _FILE, (last, at), partial(read, {n: at})) for n, at in self.places.items())]

    def _waited_for(self) -> Sequence[str]:
        """Return the sources that are neither loaded nor faulty yet."""
        origins = {one.origin for one in self.loaded.values()}
        waiting = [one for one in self._all() if one.origin not in origins and one.key not in self.faults]
        return [one.name if one.origin[1] is None else f"{one.name}: {one.key}" for one in waiting]

    async def _load(self, source: _Source, now: datetime) -> None:
        before = self.faults.get(source.key)
        try:
            found, problems = await _ask(source)
            if source.origin[1] is not None and self.places.get(str(source.key)) != source.origin[1]:
                return  # the policies file has changed meanwhile
            problems = [*self._keep(source, found, now, whole=not problems), *problems]
        except BaseException as error:
            # What a host's source returns may raise anything as well.
            if was_cancelled(error) or ends_program(error):
                raise
            problems = [f"raised {error_place(error)}"]
        if not problems:
            if self.faults.pop(source.key, None) is not None:
                log.info("the schedules of %s are loaded again", source.name)
            return
        self.faults[source.key] = shortened(f"{source.name}: {'; '.join(problems)}", MAX_FAULT_CHARS)
        if self.faults[source.key] != before:
            log.error("schedules could not be loaded; what was loaded before stays: %s", self.faults[source.key])

    def _keep(self, source: _Source, found: Mapping[str, object], now: datetime, *, whole: bool) -> list[str]:
        """Keep the sound schedules of a source, and return what is wrong with the others."""
        if not isinstance(found, Mapping):
            return [f"it returned {type(found).__name__}, which is not a mapping of names to schedules"]
        before_it = [name for name, one in self.loaded.items() if one.origin == source.origin]
        expected = [source.key] if isinstance(source.key, str) else before_it
        problems = [f"schedule {name!r} is missing" for name in expected if whole and name not in found]
        for name, schedule in found.items():
            if not isinstance(name, str) or not name:
                problems.append(f"a schedule has the name {name!r}, which is not text")
                continue
            before = self.loaded.get(name)
            if before is not None and before.origin[0] < source.origin[0]:
                problems.append(f"schedule {name!r} has the name of one of {_name(self.sources[before.origin[0]])}")
                continue
            kept = sound(schedule, source.origin, before, now)
            if isinstance(kept, Loaded):
                self.loaded[name] = kept
            else:
                problems.append(f"schedule {name!r} {kept}")
        return problems

    @property
    def was_loaded(self) -> bool:
        """Whether the sources were loaded, or tried to."""
        return bool(self.loaded or self.faults)

    def health(self, now: datetime) -> Mapping[str, ScheduleHealth]:
        """Return how old each schedule is, and when it ends. ``now`` is the store's instant."""
        return {name: one.health(now) for name, one in self.loaded.items()}

    async def aclose(self) -> None:
        """Cancel a load that is running."""
        await self._load_task.end()


async def _ask(source: _Source) -> tuple[Mapping[str, object], list[str]]:
    """Return what a source loads, and what is wrong."""
    try:
        return await within(LOAD_TIMEOUT, source.load()), []
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


def _name(source: ScheduleSource) -> str:
    """Return what to call a source: its own ``name`` if it has one, else its type."""
    try:
        name = getattr(source, "name", None)
    except BaseException as error:
        # It is a host's property.
        if ends_program(error):
            raise
        name = None
    return name if isinstance(name, str) else type(source).__name__
