"""The invariants of the promise, I1 to I9, as pure checks of the history of a run.

Write a run in which workers compete, crash and lose connections, and demand ``[] == check(history)``. Within one
process ``Recorder`` records the history. ``docs/how-to/write-a-store.md`` shows such a run.
"""

from collections.abc import Mapping, Sequence

from .bundles import changed_bundles, dropped, unhalved
from .escalations import duplicated, lost, shared_keys
from .history import (
    Fault,
    FinalPage,
    HealthSample,
    History,
    HostWrite,
    NewFile,
    OverrideSpan,
    PageChange,
    PauseSpan,
    RecordedEscalation,
    RecordedNote,
    Request,
    Verb,
    Violation,
)
from .ladders import Ladder, Roster
from .notice_records import FinalNotice, NoticeClaim, Told
from .notices import delayed, early, notice_keys, pageless, repeated, unknown_threads, untold
from .pages import copied, outlived, undelivered, unwanted
from .recipients import passes
from .recorder import Recorder
from .recovery import busy_loops, findings, leaked, unclaimed, unhealthy
from .run_settings import RunSettings
from .storms import miscounted, over_budget, starving, successors, unheard
from .walks import overdue_notes, silent_ends, untimely_notes

__all__ = [
    "INVARIANTS",
    "Fault",
    "FinalNotice",
    "FinalPage",
    "HealthSample",
    "History",
    "HostWrite",
    "Ladder",
    "NewFile",
    "NoticeClaim",
    "OverrideSpan",
    "PageChange",
    "PauseSpan",
    "RecordedEscalation",
    "RecordedNote",
    "Recorder",
    "Request",
    "Roster",
    "RunSettings",
    "Told",
    "Verb",
    "Violation",
    "check",
]

INVARIANTS: Mapping[str, str] = {
    "I1": "no escalation is lost: what is due is recorded within two ticks after the fault ends; so soon an"
    " acknowledgement with a timeout expires, too",
    "I2": "one escalation per incident, episode and level, without a gap, by its policy, and none before it is due;"
    " only a level whose schedules name no one is passed over",
    "I3": "each page is accepted at least once, alone or in a bundle, superseded by or handed over to a page that is,"
    " cancelled for a reason, or dead and reported, and says which schedule named its person; the end of a walk is"
    " noted, and so is an incident that is unheard",
    "I4": "one dedup key per escalation, never shared, also on the page of a fallback; a bundle has a key of its own,"
    " which never stands for other pages, and so has each half of one that is refused for good",
    "I5": "a second copy only for a fault between claim and settlement; a worker that lost a page neither sends nor"
    " settles it, and no page is superseded or handed over while another sender has it",
    "I6": "no page that was recorded before an acknowledgement is claimed after it, also if it has expired",
    "I7": "workers recover by themselves, without a busy loop, and health shows the fault and clears; all together they"
    " keep to the budgets of targets, and let no page starve",
    "I8": "no secret in any log, span, metric, error or row",
    "I9": "those who were paged, and only those, learn once what became of the incident, after its pages, under a key"
    " of its own, and no page waits for a notice",
}
"""Each invariant by its name."""
_CHECKS = (
    lost, overdue_notes, duplicated, passes, untimely_notes, undelivered, dropped, silent_ends, shared_keys,
    changed_bundles, unhalved, copied, unwanted, outlived, successors, unheard, over_budget, starving, miscounted,
    unclaimed, busy_loops, unhealthy, findings, notice_keys, pageless, early,
    repeated, untold, unknown_threads, delayed,
)  # fmt: skip


def check(history: History, texts: Mapping[str, str] | None = None, secrets: Sequence[str] = ()) -> Sequence[Violation]:
    """Return every violation of I1 to I9, in order.

    Without ``notes``, ``statements`` or ``texts``, the checks that read them find nothing. A fault with ``unhealthy``
    or ``findings`` needs health samples: missing ones are violations.

    Args:
        history: the history of the run.
        texts: all texts that the run wrote (logs, spans, rows), by name; I8 searches them.
        secrets: the strings that must not appear in these texts.
    """
    found = {violation for each in _CHECKS for violation in each(history)}
    return sorted(found | set(leaked(texts or {}, secrets)), key=str)
