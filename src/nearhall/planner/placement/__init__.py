"""Which workload is answered where: location models solved to a proven gap."""
