"""Secrets: variables that may name a file, keys of signed requests, URLs of webhooks. No error contains a secret."""

import base64
import re
from collections.abc import Callable, Mapping

from ..checks import is_web_url
from ..errors import InvalidValue

PREFIX = "whsec_"
_REMEDY = "give whsec_ with base64 of 24 random bytes or more, or 32 plain bytes or more"
_AUTHORITY = re.compile(
    r"[a-z]+://([^/?#@]*@)?([^/?#@:\[\]]+|\[[0-9a-f:.%]+\])(:(?P<port>[0-9]{1,5}))?([/?#]|$)", re.IGNORECASE
)


def secret_text(mapping: Mapping[str, str], name: str, read_file: Callable[[str], str] | None) -> str | None:
    """Return the text of the variable ``name``, or of the file that ``NAME_FILE`` names; None if neither is set.

    Raises:
        InvalidValue: both are set, or the file cannot be read.
    """
    file = f"{name}_FILE"
    if file not in mapping:
        return mapping.get(name)
    if name in mapping:
        raise InvalidValue(name, f"is set beside {file}", "set one of the two")
    if read_file is None:
        remedy = "call Settings.from_env(..., read_file=escalation_adapters.files.read_secret)"
        raise InvalidValue(name, f"{file} names a file, but the core does not open files", remedy)
    try:
        return read_file(mapping[file]).rstrip("\r\n")
    except (OSError, ValueError) as error:
        fault = f"{file} cannot be read ({type(error).__name__})"
        raise InvalidValue(name, fault, "name a UTF-8 file that this process may read") from None


def parse_key(secret: str) -> bytes:
    """Return the bytes of a key. The text is ``whsec_`` and base64, or any other text. The key may be empty.

    Raises:
        InvalidValue: the text after ``whsec_`` is not base64, or the text cannot be encoded.
    """
    key = _decoded(secret)
    if isinstance(key, str):
        # Raised outside the except block: a chained exception carries the original one, which contains the secret.
        raise InvalidValue("secret", key, _REMEDY)
    return key


def _decoded(secret: str) -> bytes | str:
    """Return the key, or the fault of the secret as text."""
    try:
        if secret.startswith(PREFIX):
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        # Python reads bytes of the environment that are not UTF-8 as surrogates. Turn them back into these bytes.
        return secret.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    except ValueError:  # binascii.Error is one
        return "is not base64 after whsec_"


def check_secret(value: object) -> None:
    """Check a secret of signed requests. It must be long enough that it cannot be guessed."""
    if not isinstance(value, str):
        raise InvalidValue("secret", f"is {type(value).__name__}", "give text")
    least = 24 if value.startswith(PREFIX) else 32
    if value == "change_me":
        fault = "is the placeholder"
    elif value != value.strip():
        fault = "has surrounding blanks"
    elif len(parse_key(value)) < least:
        fault = f"is shorter than {least} bytes"
    else:
        return
    raise InvalidValue("secret", fault, _REMEDY)


def check_url(value: object, allow_http: bool) -> None:
    """Check an https URL (or http if allowed). It must name a host. A port must be below 65536."""
    if not is_web_url(value, allow_http=allow_http):
        raise InvalidValue("url", "is not https", "write https://..., or set ESC_ALLOW_HTTP=true for http")
    authority = _AUTHORITY.match(value)
    if authority is None or int(authority["port"] or 1) > 65535:
        raise InvalidValue("url", "names no host, or no port from 0 to 65535", "write https://HOST/PATH")
