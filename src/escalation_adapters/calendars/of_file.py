"""The calendars that a policies file names: ``FileCalendars``."""

from collections.abc import Mapping
from pathlib import Path

import attrs

from escalation_core import InvalidValue, SchedulesError
from escalation_core.errors import Problem
from escalation_core.ports import Schedule


@attrs.frozen
class FileCalendars:
    """Reads the calendars of a policies file: ``Engine(policies=..., calendars=FileCalendars(folder))``."""

    folder: Path = Path()
    """The folder of the policies file: relative paths count from it."""

    async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
        """Return the schedules of the calendars.

        Raises:
            SchedulesError: some calendars cannot be read. The error has the schedules of the others.
            MissingExtra: the extra ``ical`` is not installed.
        """
        # Imported here, because only files with calendars need it.
        from .ical import IcalSource  # noqa: PLC0415

        sound: dict[str, str] = {}
        problems: dict[str, Problem] = {}
        for name, place in calendars.items():
            try:
                IcalSource({name: place}, folder=self.folder)
                sound[name] = place
            except InvalidValue as fault:
                problems[name] = Problem(fault.fault, fault.remedy)
        try:
            loaded = await IcalSource(sound, folder=self.folder).load()
        except SchedulesError as error:
            loaded, problems = error.loaded, problems | error.problems
        if problems:
            raise SchedulesError(problems, loaded)
        return loaded
