"""Who calls, and what that caller may do: signatures, roles, rate limits. Usable alone, on a route of the host."""
