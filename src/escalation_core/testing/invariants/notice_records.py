"""The records of notices in the history of a run. All instants are seconds since 1970."""

import attrs


@attrs.frozen(kw_only=True)
class FinalNotice:
    """The state of a notice at the end of the run."""

    id: int
    kind: str
    key: str
    episode: int
    level: int
    target: str
    dedup_key: str
    state: str
    at_micros: int
    """When it happened, in microseconds since 1970: its key names this instant."""
    created_at: float

    @property
    def at(self) -> float:
        """When it happened."""
        return self.at_micros / 1_000_000


@attrs.frozen(kw_only=True)
class NoticeClaim:
    """One claim of a notice."""

    notice: int
    at: float
    worker: str


@attrs.frozen(kw_only=True)
class Told:
    """One request that told a notice and reached the receiver."""

    dedup_key: str
    """The key that the receiver got: that of the notice, or of its thread."""
    target: str
    worker: str
    at: float
    accepted: bool
    answered: bool = True
    """Whether the receiver sent its whole answer."""
    kind: str | None = None
    """The kind of the notice, if its key is that of a thread; None if it has a key of its own."""
