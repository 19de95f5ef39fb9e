"""What runs an engine: the loops of a worker, from code that awaits and from code that does not."""
