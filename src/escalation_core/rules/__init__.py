"""Rules: pure functions that decide. Each gets the current instant as an argument, and none awaits."""
