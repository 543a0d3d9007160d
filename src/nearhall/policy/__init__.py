"""What we choose: (state, seen, now) -> decision. Shared by planner, simulator, site and hub.

Belongs here: pure functions and frozen values. Never: a clock, randomness, logging, I/O, numpy; nor how the world
behaves (physics), nor a wire format (wire).
"""
