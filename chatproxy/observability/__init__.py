"""Signals in; log lines and metrics out."""
