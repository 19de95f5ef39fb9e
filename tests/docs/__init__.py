"""The documentation's tests: what it shows runs, and what it lists is what the code has. A second or two for a page."""
