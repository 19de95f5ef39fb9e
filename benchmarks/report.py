"""The figures, where people look."""


def write() -> None:
    """Write tables and plots."""
