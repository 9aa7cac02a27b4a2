"""Signals in; log lines and metrics out. What happens is counted and logged nowhere else."""
