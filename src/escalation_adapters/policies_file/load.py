"""Read a policies file. Its ending says whether it is YAML, TOML or JSON."""

import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from escalation_core import InvalidValue, Policies, PoliciesError
from escalation_core.checks import TWICE, strict_json
from escalation_core.errors import Problem
from escalation_core.rules.policies_values import shown

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
    remedy = "name a file that this process may read"
    content, kind = b"", 0
    fault: str | None = None
    try:
        kind = path.stat().st_mode
        if stat.S_ISREG(kind):  # a pipe would block
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    except ValueError:  # a NUL in the path
        fault = "is not a valid path"
    if fault is None and not stat.S_ISREG(kind):
        fault = "is a folder" if stat.S_ISDIR(kind) else "is not a regular file"
    if fault is not None:
        raise InvalidValue("file", fault, remedy)
    if len(content) > MAX_BYTES:
        raise InvalidValue("file", f"is longer than {MAX_BYTES // 1024} KiB", "name a policies file")
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
