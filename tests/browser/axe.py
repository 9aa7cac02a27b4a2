"""What axe says of a page."""

from ..support.servers import ROOT

AXE = ROOT / "chatproxy" / "client" / "node_modules" / "axe-core" / "axe.min.js"


def violations(page):
    """What axe finds in a page as it is now, in either scheme: which rule, and in which elements.

    The schemes differ by their colours alone. A document that was examined before takes a fifth of
    the time, and what axe does not complain of is not told.
    """
    if not page.evaluate("'axe' in globalThis"):
        page.evaluate(AXE.read_text())
    found = page.evaluate(EXAMINE, {})
    page.emulate_media(color_scheme="dark")
    found += page.evaluate(EXAMINE, {"runOnly": ["color-contrast"]})
    page.emulate_media(color_scheme="light")
    return found


EXAMINE = """async (options) => {
    const {violations} = await axe.run({...options, resultTypes: ["violations"]});
    return violations.map(({id, nodes}) => [id, nodes.map(({html}) => html)]);
}"""
