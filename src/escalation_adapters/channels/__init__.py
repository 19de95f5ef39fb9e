"""Channels: notifiers that bring pages to people, and the HTTP client that they share."""
