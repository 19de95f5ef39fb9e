"""Rules: pure decisions. The instant is always an argument, and nothing here waits for anything."""
