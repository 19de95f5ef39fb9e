"""The rules of secrets: keys of signed requests, and URLs of webhooks. No error holds any of a secret."""

import base64
import re
from typing import TypeGuard

from ..errors import InvalidValue

PREFIX = "whsec_"
_REMEDY = "give whsec_ with base64 of 24 random bytes or more, or 32 plain bytes or more"
_AUTHORITY = re.compile(
    r"[a-z]+://([^/?#@]*@)?([^/?#@:\[\]]+|\[[0-9a-f:.%]+\])(:(?P<port>[0-9]{1,5}))?([/?#]|$)", re.IGNORECASE
)


def parse_key(secret: str) -> bytes:
    """Return the key that a text stands for: ``whsec_`` and base64, or any other text. It may be empty.

    Raises:
        InvalidValue: it is not base64 after ``whsec_``, or cannot be encoded.
    """
    key = _decoded(secret)
    if isinstance(key, str):
        # Raised out here: an exception carries the one it came from, and that one carries the secret.
        raise InvalidValue("secret", key, _REMEDY)
    return key


def _decoded(secret: str) -> bytes | str:
    """Return the key, or what is wrong with the secret."""
    try:
        if secret.startswith(PREFIX):
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        # An environment's bytes that are not UTF-8 are surrogates to Python, and bytes again to who signs.
        return secret.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    except ValueError:  # binascii.Error is one
        return "is not base64 after whsec_"


def check_secret(value: object) -> None:
    """Check a secret of signed requests: settings ask for more bytes than anybody guesses."""
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


def is_web_url(value: object, *, allow_http: bool) -> TypeGuard[str]:
    """Tell whether a value is an https URL (or http if allowed) in printable characters without blanks."""
    schemes = ("https://", "http://") if allow_http else ("https://",)
    return isinstance(value, str) and value.lower().startswith(schemes) and value.isprintable() and " " not in value


def check_url(value: object, allow_http: bool) -> None:
    """Check an https URL (or http if allowed): it names a host, and a port below 65536 if any."""
    if not is_web_url(value, allow_http=allow_http):
        raise InvalidValue("url", "is not https", "write https://..., or set ESC_ALLOW_HTTP=true for http")
    authority = _AUTHORITY.match(value)
    if authority is None or int(authority["port"] or 1) > 65535:
        raise InvalidValue("url", "names no host, or no port that exists", "write https://HOST/PATH")
