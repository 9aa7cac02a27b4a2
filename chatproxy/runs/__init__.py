"""Runs: answers that an application's function makes, with as many calls as it likes.

A run is a ``Call`` like any other to the producer (``call``): it is opened, aborted and closed.
What the function gets is a ``Run`` (``run``). Whatever it waits for there is ended by the run's
``AbortHandle``, and nothing begins after that.
"""
