"""The measurements: ``python -m benchmarks.stop`` prints them all in one run."""
