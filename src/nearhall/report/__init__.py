"""Documents in, HTML, pictures and words out: one look for plan, pilot, decision and rehearsal.

Belongs here: pure functions from `pilot.json` and live state to HTML (Bokeh) and sentences. Never: reading a store,
computing a figure that the document does not hold, the network.
"""
