"""Signals in; log lines and metrics out. Nothing else is told what to log or to count."""
