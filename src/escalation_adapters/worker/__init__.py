"""Workers: the loops that run an engine, for hosts with asyncio and for hosts with threads."""
