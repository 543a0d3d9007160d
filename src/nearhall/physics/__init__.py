"""How the world behaves: power curves, UPS losses, heat, energy balance, queues, networks, PUE.

Belongs here: pure formulas with units in their names and a source in their docstring, for floats and arrays alike
(`core.elementwise`). Never: a choice (policy), numpy, a clock or I/O.
"""
