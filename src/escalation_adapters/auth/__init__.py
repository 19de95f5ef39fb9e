"""Authentication of requests: signatures, roles and rate limits. A host may also use them on its own routes."""
