"""One file per command: arguments in, a root called, a summary or JSON out."""
