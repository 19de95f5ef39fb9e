"""The command line: ``escalation``. It reads the environment, and nothing else in the library does."""

from ..app import MissingExtra


def main() -> None:
    """Run the command line, or say which packages it needs."""
    try:
        from .root import run
    except ImportError as error:
        if error.name not in ("click", "rich"):
            raise
        raise SystemExit(f"escalation: {MissingExtra('the command line', 'cli')}") from None
    run()
