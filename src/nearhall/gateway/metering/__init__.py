"""What is counted: requests, runs and joules, and how `/metrics` tells them."""
