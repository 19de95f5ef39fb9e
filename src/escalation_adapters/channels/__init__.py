"""Channels: notifiers that send pages to people, and the HTTP client that they share."""
