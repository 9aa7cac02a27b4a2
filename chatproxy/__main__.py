"""``python -m chatproxy`` is the same as ``chatproxy``."""

from .cli import main

main(prog_name="chatproxy")
