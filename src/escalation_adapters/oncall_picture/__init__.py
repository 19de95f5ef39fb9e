"""Pictures of who is on call."""
