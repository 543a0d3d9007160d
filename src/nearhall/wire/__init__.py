"""What programs say to each other and to clients: messages and sans-I/O sessions, each with its version.

Belongs here: encoding, decoding, validation and the order of messages, as values in and values out (msgspec allowed).
Never: sockets, clocks, files, pydantic; nor what to choose (policy).
"""
