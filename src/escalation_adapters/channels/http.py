"""HTTP calls whose URL is a secret: webhooks and heartbeats. Nothing here ever shows a URL, and no tracer sees one."""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from opentelemetry import context
from yarl import URL

from escalation_core.settings.secrets import is_web_url


def parse(url: object, *, allow_http: bool) -> URL | None:
    """Return an https URL with a host (http as well if allowed), None for anything else."""
    # Returns, so that the refusal is raised outside of any except: exceptions carry those they came from.
    if not is_web_url(url, allow_http=allow_http):
        return None
    # Whether there is a host, yarl says here and a pattern in the core's ``check_url``, and the two differ on purpose.
    # The client calls what yarl reads, so that a name which cannot be called is refused; the core has no such list.
    try:
        parsed = URL(url)
        return parsed if parsed.host else None
    except (ValueError, IndexError):  # yarl 1.x raises the latter for brackets without a host, such as https://[]@
        return None


def session() -> aiohttp.ClientSession:
    """Return a session without cookies, without the environment's proxies and passwords, and without tracers."""
    # No limit of its own: callers bound what is in flight, and a slow receiver makes no other one wait.
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )
    # Tracers that patch aiohttp put themselves in here, and would see each URL.
    made.trace_configs.clear()
    return made


def failure(error: Exception) -> str:
    """Return the kind of a failure. Messages and reprs are left alone: aiohttp's hold the URL."""
    if isinstance(error, TimeoutError):
        return "timed out"
    cause = getattr(error, "os_error", None)
    return type(error).__name__ + ("" if cause is None else f" ({type(cause).__name__})")


@contextmanager
def untraced() -> Iterator[None]:
    """Keep OpenTelemetry's HTTP instrumentation away: it writes URLs into spans. The engine traces sends itself."""
    token = context.attach(context.set_value("suppress_instrumentation", True))
    try:
        yield
    finally:
        context.detach(token)
