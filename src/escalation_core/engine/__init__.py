"""The engine: the only package of the core that awaits the ports."""
