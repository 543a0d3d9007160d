"""PROGRAM: a virtual cabinet, real protocols in front of physics. Its identity says `virtual`, and nothing removes it.

Belongs here: the simulated plant's state stepping through `physics`, and the Modbus server that shows it.
Never: being mistaken for a meter: no commissioning record, no `measured`.
"""
