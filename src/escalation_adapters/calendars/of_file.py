"""The calendars that the policies file names, as one source of schedules."""

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from escalation_core import InvalidValue, Policies, SchedulesError
from escalation_core.errors import Problem
from escalation_core.ports import Schedule


@attrs.frozen
class CalendarsOfFile:
    """Loads the calendars of the policies file that is in force. Paths count from the file's folder."""

    policies: Callable[[], Policies | None]
    """Returns the policies in force. They may change at any time, for example when the file is read again."""
    folder: Path
    name: str = "the policies file"
    of_file: bool = True
    """Tells the engine that this source has only schedules that the policies file names."""

    async def load(self) -> Mapping[str, Schedule]:
        """Return the schedules of all calendars of the file.

        Raises:
            SchedulesError: some calendars cannot be read. The error has the schedules of the others.
            MissingExtra: the extra ``ical`` is not installed.
        """
        policies = self.policies()
        if policies is None or not policies.calendars:
            return {}
        # Imported here, because only files with calendars need it.
        from .ical import IcalSource  # noqa: PLC0415

        sound: dict[str, str] = {}
        problems: dict[str, Problem] = {}
        for name, place in policies.calendars.items():
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
