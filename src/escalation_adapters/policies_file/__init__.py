"""Policies files in YAML, TOML and JSON: ``load_policies`` reads one."""

from .load import load_policies

__all__ = ["load_policies"]
