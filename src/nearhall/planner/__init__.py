"""What to build, where, and what it is worth: fit, size, place, cost, fleet, decide. Pure: documents and arrays in, values out.

    samples < serving < placement < place, power < money < sensitivity, grid < plan < learning < results

`plan.make_plan` and `learning.decide` tie the rooms together; `place` holds the location models for plain arrays.

Belongs here: numpy, scipy, HiGHS and psychrolib; seeded draws; a formula's use on many samples at once. Never: a file, a
clock, a screen (cli, report), nor a law of nature (physics) or a choice that a running site makes too (policy).
"""
