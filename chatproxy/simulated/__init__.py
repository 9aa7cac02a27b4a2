"""A simulated DeepSeek on a real socket, for demonstrations and tests.

It speaks DeepSeek's wire format, behaves as each request's ``simulate`` field asks
(:class:`Scenario`), and keeps a ledger of what its peers did, to be read at ``/ledger``
(:class:`Ledger`). No model is behind it and nothing leaves the machine.
"""

from __future__ import annotations

from .ledger import Ledger
from .scenario import Scenario
from .server import SimulatedDeepSeek, serve

__all__ = ["Ledger", "Scenario", "SimulatedDeepSeek", "serve"]
