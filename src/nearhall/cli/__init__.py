"""Commands, and one composition root per program: the only place that reads configuration, environment and the clock.

Belongs here: argument parsing, help that teaches, building drivers and handing them to programs, exit codes, the terminal.
Never: anything a program would need to import.
"""
