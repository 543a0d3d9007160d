"""PROGRAM hub, the control plane: registry, shadows, telemetry in, live state out, the page, `pilot.json`.

Belongs here: the control API (FastAPI) and what it keeps through the `Store` port. Never: inference (the hub's gateway is
the `gateway` program), a concrete database (drivers), drawing (report renders; it is handed in).
"""
