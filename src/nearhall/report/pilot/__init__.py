"""The report of a pilot: what was gained, what it cost, and how far it may be believed."""
