"""`nearhall up`: the pilot on one machine, as the composition of all the other programs.

Belongs here: which processes run with which settings, keeping them alive, the end of a run. Never: anything a process of
the pilot does itself; each is the real program, started as it would be in the field.
"""
