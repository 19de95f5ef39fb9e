"""Calendars as sources of schedules: iCalendar files and URLs."""
