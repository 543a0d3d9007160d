"""nearhall: plan, rehearse, run and prove small data centers for AI."""

__version__ = "0.1.0"
