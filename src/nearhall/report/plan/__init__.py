"""The report of a plan, for whoever signs and for the engineer."""
