"""What a notifier can do besides sending one page: it declares it once, and the engine asks nothing else."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import attrs

from ..checks import check_mapping
from ..errors import InvalidValue
from .budget import Budget
from .notice import NoticeKind

EVERY_KIND: AbstractSet[NoticeKind] = frozenset(NoticeKind)


@attrs.frozen(kw_only=True)
class Abilities:
    """The abilities of a notifier. Without any, it sends each page as a message of its own, and tells no notice.

    Raises:
        InvalidValue: a field has a wrong type, ``asked`` has a kind that is not in ``notices``, or ``threads`` is set
            and resolved incidents are not in ``notices``.
    """

    bundles: bool = False
    """It can send many pages in one message: it has ``send_bundle``; with ``notices``, also ``tell_bundle``."""
    notices: AbstractSet[NoticeKind] = frozenset()
    """The kinds of notices that it can tell: it has ``tell``."""
    asked: AbstractSet[NoticeKind] = frozenset()
    """The kinds that its targets get, unless the settings say otherwise."""
    threads: bool = False
    """Its receiver groups the messages of an episode by ``thread_key``, and keeps each group open until a notice says
    that it is resolved. A target that gets notices of this kind gets one for each episode that it was paged about. It
    needs ``NoticeKind.RESOLVED`` in ``notices``; add it to ``asked``, too."""
    budgets: Mapping[str, Budget] = attrs.field(factory=dict)
    """The budgets of its targets. The settings may set others."""

    def __attrs_post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in ("bundles", "threads"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidValue(name, f"is {getattr(self, name)!r}", "give True or False")
        for name in ("notices", "asked"):
            kinds = getattr(self, name)
            if not isinstance(kinds, AbstractSet) or not all(isinstance(kind, NoticeKind) for kind in kinds):
                raise InvalidValue(name, f"is {kinds!r}", "give a set of NoticeKind")
        if beyond := sorted(self.asked - self.notices):
            raise InvalidValue("asked", f"has {beyond[0].value}, which is not in notices", "add it to notices")
        if self.threads and NoticeKind.RESOLVED not in self.notices:
            raise InvalidValue("threads", "is True without resolved in notices", "add it to notices")
        for target, budget in check_mapping(self.budgets, "budgets", "map targets to Budget").items():
            if not isinstance(budget, Budget):
                fault = f"{target!r} has {type(budget).__name__}"
                raise InvalidValue("budgets", fault, "give Budget(rate=..., burst=...)")
