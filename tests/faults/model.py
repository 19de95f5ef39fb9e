"""What must have happened: the eight invariants, judged from what is known of a run. Pure."""

from collections.abc import Mapping, Sequence

from .history import History, Violation
from .judge_conduct import loops, named, shown, stuck, told
from .judge_escalations import doubled, lost, shared
from .judge_pages import copied, outlived, unheard, unwanted

INVARIANTS = {
    "I1": "no escalation is lost: what is due is recorded within two ticks after the fault ends",
    "I2": "one event per incident, episode and level, without a gap, and none that was not due",
    "I3": "each page is accepted at least once, cancelled for a reason, or dead with an alarm",
    "I4": "one dedup key per escalation, never shared",
    "I5": "a second copy only for a fault between claim and mark; who lost a page neither sends nor settles it",
    "I6": "no page that was recorded before an acknowledgement is claimed after it",
    "I7": "it recovers by itself, without a hot loop, and health shows the fault and clears",
    "I8": "no secret in any log, span, metric, error or row",
}
JUDGES = (lost, doubled, unheard, shared, copied, unwanted, outlived, stuck, loops, shown, named)


def check(history: History, texts: Mapping[str, str], secrets: Sequence[str]) -> list[Violation]:
    """Return every breach, in order."""
    found = {violation for judge in JUDGES for violation in judge(history)}
    return sorted(found | set(told(texts, secrets)), key=str)
