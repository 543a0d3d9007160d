"""What the programs need from outside: small Protocols and the values they pass.

Belongs here: `typing.Protocol`s of one to four methods, named for the thing, and their frozen values.
Never: an implementation. Real things stand in `drivers`; fakes ship beside them and pass the same contract tests.
"""
