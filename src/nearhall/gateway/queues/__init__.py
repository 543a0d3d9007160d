"""Who waits for what: lanes of runs, a language model's slots and turns, and the watch over the event loop."""
