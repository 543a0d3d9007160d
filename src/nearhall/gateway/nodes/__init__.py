"""The front of several nodes: one address, no model, each request to the node that is expected to answer first."""
