"""Read a policies file. Its ending says whether it is YAML, TOML or JSON."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from escalation_core import InvalidValue, Policies, PoliciesError
from escalation_core.checks import TWICE, strict_json
from escalation_core.errors import Problem
from escalation_core.rules.policies_values import shown

from ..files import read_bounded

MAX_BYTES = 256 * 1024
"""The longest policies file. A thousand policies are shorter, and YAML of this size is read within seconds."""
_TOO_DEEP = InvalidValue("file", "is nested too deep", "nest less")


def load_policies(path: str | Path) -> Policies:
    """Return the policies of a file that ends in ``.yaml``, ``.yml``, ``.toml`` or ``.json``.

    It blocks: in an event loop, call it in a thread. A YAML file needs the extra ``yaml``.

    Raises:
        PoliciesError: the file is missing or wrong. A problem of the whole file has the file's name as its path, any
            other one its path within the file.
        MissingExtra: the file is YAML, and the extra is not installed.
    """
    try:
        mapping = _parse(Path(path))
    except InvalidValue as fault:
        raise PoliciesError({str(path): Problem(fault.fault, fault.remedy)}) from None
    return Policies.from_mapping(mapping)


def _parse(path: Path) -> object:
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise InvalidValue("file", f"has the ending {path.suffix!r}", f"name a file that ends in {', '.join(_PARSERS)}")
    text = _read(path)
    if not text.strip():
        raise InvalidValue("file", "is empty", "name at least one policy in it")
    return parse(text)


def _read(path: Path) -> str:
    """Return the text of a file. A byte order mark is left out."""
    content = read_bounded(path, MAX_BYTES, "a policies file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidValue("file", "is not UTF-8 text", "name a policies file") from None


def _yaml(text: str) -> object:
    from .yaml_text import parse_yaml

    return parse_yaml(text)


def _toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _TOO_DEEP from None
    except ValueError as error:  # TOMLDecodeError is one, and an impossible date raises another
        raise InvalidValue("file", f"is not valid TOML: {error}", "correct the line") from None


def _json(text: str) -> object:
    try:
        return strict_json(text)
    except InvalidValue as fault:
        if fault.fault == TWICE:
            raise InvalidValue("file", f"names {shown(fault.field)} twice in one object", "name it once") from None
        raise InvalidValue("file", fault.fault, fault.remedy) from None


_PARSERS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {".yaml": _yaml, ".yml": _yaml, ".toml": _toml, ".json": _json}
)
