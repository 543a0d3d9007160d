"""What is not known, as draws: common random numbers by name, and the ledger of every input with its evidence."""
