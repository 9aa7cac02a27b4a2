"""Signals in; log lines and metrics out. Only here are answers counted, and their ends logged."""
