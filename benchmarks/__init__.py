"""Measurements. ``nox -s bench`` runs them; each module describes what it measures and compares."""
