"""PROGRAM site, the agent: supervises and stands in for the gateway, reads meters, keeps the shadow, syncs with the hub.

Belongs here: what a site does by itself, thinly around `policy` and `wire`. Stays small: no pydantic, typer, rich, numpy.
Never: inference (gateway), a concrete meter, socket client or database (drivers, through ports).
"""
