"""The measurements, each with a command of its own: see ``docs/measurements.md``."""
