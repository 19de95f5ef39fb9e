"""Records of an incident's walk through a policy: the pin, a kept version, and the counts for health."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache

import attrs

MAX_PIN_SEVERITY_CHARS = 60
"""Max characters of the severity in a pin."""
BUILTIN = "builtin"
"""The name of the built-in policy."""
LATELY = ("ack_expired", "rebind", "lost_version", "unknown_policy")
"""The actions in the audit that health counts."""
MAX_UNKNOWN_POLICIES = 20
"""Max unknown names that health lists."""
WORKER_RUNS = timedelta(minutes=20)
"""A worker whose last heartbeat is older does not count in ``worker_digests``: twice the longest tick interval."""
UNACKNOWLEDGED = "!"
"""The prefix that a trigger gives a pin when a host takes an acknowledgement back by SQL. The planner removes it."""


@attrs.frozen
class Pin:
    """What ``policy_pin`` says: the policy that an incident walks through, its version, and the severity it was for."""

    policy: str
    digest: str
    """The version: sha256 in hex. Empty for the built-in policy."""
    severity: str
    unacknowledged: bool = False
    """Whether a host took an acknowledgement back by SQL, and no engine has planned the row since."""

    @classmethod
    @lru_cache(maxsize=1024)  # a tick reads the few pins of a file again and again
    def parse(cls, text: str | None) -> "Pin | None":
        """Return the pin of a column's text; None without a text, and for a text that is not a valid pin."""
        if text is None:
            return None
        own = text.lstrip(UNACKNOWLEDGED)
        parts = own.split("@", 2)
        if len(parts) != 3 or not parts[0]:
            return None
        return cls(parts[0], parts[1], parts[2], unacknowledged=own != text)

    def __str__(self) -> str:
        """Return the text of the column."""
        return f"{UNACKNOWLEDGED if self.unacknowledged else ''}{self.policy}@{self.digest}@{self.severity}"


@attrs.frozen
class KeptVersion:
    """The text of a policy's version, and when the store began to keep it."""

    text: str
    kept_at: datetime


def files_of(workers: Mapping[str, int]) -> dict[str, int]:
    """Return how many workers run which policies file; empty if no worker has one."""
    return dict(workers) if any(workers) else {}


@attrs.frozen(kw_only=True)
class WalkStats:
    """Counts about policies, for health."""

    unknown_policies: Mapping[str, int] = attrs.field(factory=dict)
    """Open incidents whose host names a policy that an engine did not know, by that name. At most 20 names."""
    put_off: int = 0
    """Open incidents whose next level was put off twice or more, because a tick came after its hours had closed."""
    lately: Mapping[str, int] = attrs.field(factory=dict)
    """Notes of the last day, by action: ``ack_expired``, ``rebind``, ``lost_version``, ``unknown_policy``."""
    worker_digests: Mapping[str, int] = attrs.field(factory=dict)
    """How many workers run which policies file, by its digest. An empty digest: without a file.

    A worker counts for ``WORKER_RUNS`` after its last heartbeat. A stopped one must not look as if it ran an old file.
    """
    nobody_on_call: int = 0
    """Escalations of the last day whose levels named no one, so that the default target or the router's was paged."""
    reload_requested_at: datetime | None = None
    """When an operator last asked the workers to read their policies file again."""
