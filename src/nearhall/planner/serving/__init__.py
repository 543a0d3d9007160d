"""From requests to servers: which model fits, how long it takes, how many servers that needs, what they draw."""
