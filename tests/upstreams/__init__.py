"""Upstreams that are real, and too large for every run of the tests."""
