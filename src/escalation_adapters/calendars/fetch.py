"""Read the bytes of a calendar, from a file or an https URL. A URL is a secret: messages have its host alone."""

import asyncio
import contextlib
import ssl
from pathlib import Path

from ..extras import needs

with needs(__name__, "ical"):
    import aiohttp
    from yarl import URL

from escalation_core import InvalidValue

from ..channels.http import HEADERS, QUIET, failure, parse, read_at_most, untraced
from ..files import read_bounded

MAX_BYTES = 1024 * 1024
"""The longest calendar. A shift of PagerDuty takes 200 bytes."""
MAX_REDIRECTS = 3
MAX_SECONDS = 5.0
"""The longest time that a server or a disk may take."""
_KIND = "a calendar of on-call shifts"


async def fetch(place: URL | Path, http: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> bytes:
    """Return the content of a calendar.

    Raises:
        InvalidValue: it cannot be read within the time, or is longer than 1 MiB.
    """
    try:
        async with asyncio.timeout(MAX_SECONDS):
            if isinstance(place, Path):
                return await asyncio.to_thread(read_bounded, place, MAX_BYTES, _KIND)
            return await _get(place, http, tls)
    except TimeoutError:
        fault = f"did not answer within {MAX_SECONDS:g} seconds"
    except (aiohttp.ClientError, OSError, UnicodeError) as error:
        fault = f"cannot be reached: {failure(error)}"
    # Raised outside ``except``: an exception raised inside carries the client's error, which contains the URL.
    raise InvalidValue(_named(place), fault, "check that it can be read from this machine")


async def _get(url: URL, http: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> bytes:
    """Get a URL, and follow redirects to other https URLs."""
    headers = {**HEADERS, "Accept": "text/calendar"}
    for _ in range(MAX_REDIRECTS + 1):
        with untraced():
            async with http.get(url, headers=headers, ssl=tls or True, **QUIET) as response:
                if 300 <= response.status < 400 and "Location" in response.headers:
                    url = _target(url, response.headers["Location"])
                    continue
                return await _body(url, response)
    raise InvalidValue(_named(url), f"redirects more than {MAX_REDIRECTS} times", "give the address that it leads to")


def _target(url: URL, location: str) -> URL:
    """Return the URL to which a server redirects."""
    target: URL | None = None
    with contextlib.suppress(ValueError):
        target = parse(str(url.join(URL(location))), allow_http=False)
    if target is None:
        raise InvalidValue(_named(url), "redirects to an address that is not https", "give an https address")
    return target


async def _body(url: URL, response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise InvalidValue(_named(url), f"answers HTTP {response.status}", "give the calendar's private iCal address")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidValue(_named(url), "compresses its answer unasked", "serve the calendar uncompressed")
    content, longer = await read_at_most(response, MAX_BYTES)
    if longer:
        raise InvalidValue(_named(url), f"sends more than {MAX_BYTES // 1024} KiB", f"give {_KIND}")
    return content


def _named(place: URL | Path) -> str:
    return "file" if isinstance(place, Path) else f"https://{place.host}"
