"""One composition root per program: builds the drivers, hands them over, runs."""
