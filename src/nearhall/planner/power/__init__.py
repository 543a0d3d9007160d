"""From servers to the feed: breaker, inrush, UPS, hold, air and cooling over a year."""
