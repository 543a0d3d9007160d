"""Bring a site's real work: cameras, microphones, an inspection line, people who chat. They see it from outside

Belongs here: what a user's application would do (read, pre-process, ask, post-process), open-loop arrivals, an outside timer.
Never: anything that the gateway or the agent does.
"""
