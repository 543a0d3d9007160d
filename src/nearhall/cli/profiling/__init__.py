"""Measuring variants of a model: what they are run on, each in a process of its own, their joules, how well they agree.

What `nearhall models profile` and `quantise` are made of. Never a rule for serving: what a measured curve means is policy's.
"""
