"""The parts of which the plots are made, as SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape


def line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    """A straight line; ``name`` is its class."""
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(
    x: float, y: float, words: str, name: str = "", anchor: str = "start", *, size: int = 12
) -> str:
    """Words on one line; ``name`` is their class."""
    style = f'class="{name}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
