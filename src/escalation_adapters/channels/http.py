"""HTTP calls whose URL is a secret: webhooks and the dead man's switch. No message and no trace contains the URL."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context

from ..extras import needs

with needs(__name__, "http"):
    import aiohttp
    from yarl import URL

from escalation_core.checks import is_web_url


def parse(url: object, *, allow_http: bool) -> URL | None:
    """Return an https URL with a host (http as well if allowed), None for anything else."""
    # None instead of an exception: one raised inside ``except`` would carry the first one, which contains the URL.
    if not is_web_url(url, allow_http=allow_http):
        return None
    # Here yarl finds the host; in the core's ``check_url`` a pattern does. The two differ on purpose: the client calls
    # the host that yarl reads, so this refuses a host that cannot be called. The core does not depend on yarl.
    try:
        parsed = URL(url)
        return parsed if parsed.host else None
    except (ValueError, IndexError):  # yarl 1.x raises IndexError for brackets without a host: https://[]@
        return None


def session() -> aiohttp.ClientSession:
    """Return a session without cookies, without proxies and passwords of the environment, and without tracers."""
    # No limit on connections: callers limit the pages being sent, and a slow receiver must not delay the others.
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )
    # Tracers that patch aiohttp add themselves to this list, and would record each URL.
    made.trace_configs.clear()
    return made


def failure(error: Exception) -> str:
    """Return the kind of a failure, without its message and its repr: those of aiohttp contain the URL."""
    if isinstance(error, TimeoutError):
        return "timed out"
    cause = getattr(error, "os_error", None)
    return type(error).__name__ + ("" if cause is None else f" ({type(cause).__name__})")


@contextmanager
def untraced() -> Iterator[None]:
    """Suppress OpenTelemetry's HTTP instrumentation, which writes URLs into spans. The engine traces sends itself."""
    token = context.attach(context.set_value("suppress_instrumentation", True))
    try:
        yield
    finally:
        context.detach(token)
