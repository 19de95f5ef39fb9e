"""Schedules of pauses that people write by hand."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from escalation_core import InvalidValue, PauseSchedule

from .material import near

DAYS = ("0 0 L * *", "0 0 LW * *", "0 0 29 2 *", "0 2 * 3 sun#5", "59 23 31 12 *")
CRONS = near("0 22 * * *", "*/5 0-6 1,15 * mon-fri", "* * * * 0", *DAYS)
ZONES = near("UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Tokyo")
LENGTHS = st.integers(-1, 10_081) | st.sampled_from([1, 60, 1439, 1440, 10_080])
ENDS = [datetime(1, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, 30, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
TODAY = st.integers(0, 730 * 86_400).map(lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
INSTANTS = st.datetimes(timezones=st.just(UTC)) | TODAY | st.sampled_from(ENDS)


@given(CRONS, LENGTHS, ZONES, INSTANTS)
def test_schedule(cron: str, minutes: int, tz: str, instant: datetime) -> None:
    """A schedule is refused by its field, or ``is_paused`` and ``paused_until`` agree at any instant."""
    try:
        schedule = PauseSchedule(cron, minutes, tz)
    except InvalidValue as refusal:
        assert refusal.field in ("cron", "duration", "tz")
        return
    until = schedule.paused_until(instant)
    assert schedule.is_paused(instant) == (until is not None)
    if until is not None:
        assert instant < until
        assert not schedule.is_paused(until)
