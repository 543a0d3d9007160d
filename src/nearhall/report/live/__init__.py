"""The live page of a pilot that runs."""
