"""The command line: ``escalation``. It reads the environment, and nothing else in the library does."""


def main() -> None:
    """Run the command line, or say which packages it needs."""
    try:
        # In here, where Ctrl-C is caught: to import all of it takes a moment.
        from ..worker.app import MissingExtra

        try:
            from .root import run
        except ImportError as error:
            if error.name not in ("click", "rich"):
                raise
            raise SystemExit(f"escalation: {MissingExtra('the command line', 'cli')}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()
