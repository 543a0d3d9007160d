"""PROGRAM rehearse, and the pilot's world: the link shaper, the players that bring real work. Runs the REAL site and hub code.

Belongs here: what stands for the world outside (link, faults, cameras, people). Never: a second version of anything
that site, hub or gateway do.
"""
