"""The nouns everybody uses: evidence, reasons, tensors, residency, histograms, errors.

Belongs here: pure values without clock, randomness, logging or I/O, built on the standard library alone.
Never: a decision (policy), a physical law (physics), a file format (documents) or a message (wire).
"""
