"""Documents in, HTML, pictures and words out: one look for plan, pilot, decision and rehearsal.

    look, evidence_marks, formats < figures, reader < result_reader, sheet < pages < pilot, plan < decision < live

Belongs here: pure functions from `pilot.json` and live state to HTML (Bokeh) and sentences. Never: reading a store,
computing a figure that the document does not hold, the network.
"""
