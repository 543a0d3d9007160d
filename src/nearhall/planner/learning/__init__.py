"""From pilots to a verdict: what is accepted, how beliefs change, and which gates hold."""
