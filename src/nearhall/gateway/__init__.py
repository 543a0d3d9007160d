"""PROGRAM serve, the data plane: requests in, lanes, model repository. Site and hub both run it.

Belongs here: the ASGI routes, admission and routing acted out, lanes, the repository, metrics, the control socket.
Never: a concrete runtime or TLS client (drivers, through ports), a policy's reasoning (policy), the shadow (site).

A request comes in by `http`, `grpc` or, through a front, `nodes`; `plane` chooses where it goes; it waits in `queues`, runs on
what `models` holds, and is counted in `metering`. Imports go down in that order (checked).
"""
