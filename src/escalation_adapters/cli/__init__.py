"""The command line: ``escalation``. No other part of the library reads settings from the environment by itself."""


def main() -> None:
    """Run the command line, or name the packages that it lacks."""
    try:
        # Imported here, where Ctrl-C is caught: these imports take a moment.
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
