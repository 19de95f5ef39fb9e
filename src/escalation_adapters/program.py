"""The program ``escalation``: runs the command line, or names the packages that it lacks."""

from .extras import MissingExtra


def main() -> None:
    """Run the command line; its modules are imported here, where Ctrl-C is caught."""
    try:
        from .cli.root import run
    except MissingExtra as missing:
        raise SystemExit(f"escalation: {missing}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()
