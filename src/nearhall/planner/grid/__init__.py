"""Many sites on one grid: peaks that come together, the restart after an outage, feeders and shaving."""
