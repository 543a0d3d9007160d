"""The planner's documents: plan-result.json and decision.json as plain values."""
