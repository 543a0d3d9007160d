"""Real things behind the ports: runtimes, meters, stores, uplinks, certificates, packages; and the fakes that stand for them.

Belongs here: one file per thing, foreign errors translated at the edge, heavy libraries imported by the file that needs
them. Never: a decision (policy), a program's loop (gateway, site, hub).
"""
