"""The report of a decision: what pilots changed, and which conditions hold."""
