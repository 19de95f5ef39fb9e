"""Adapters: stores on databases, channels, the worker, the command line and the operators' endpoints."""
