"""Clients that others wrote, each driven by a line of JSON for each question."""
