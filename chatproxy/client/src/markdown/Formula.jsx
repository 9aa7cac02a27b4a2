import { useCallback, useMemo } from "react";

import { onDemand, useOnDemand } from "./on-demand.js";

const typesetter = onDemand(() => import("./typeset.js"));

/**
 * A formula. Its source is shown while it has no end yet, until KaTeX has come, and if KaTeX can't
 * make anything of it.
 * @param {{tex: string, display: boolean, closed: boolean}} props
 */
export function Formula({ tex, display, closed }) {
  const loaded = useOnDemand(typesetter);
  const node = useMemo(
    () => (loaded && closed ? loaded.typeset(tex, display) : null),
    [loaded, closed, tex, display],
  );
  return node === null ? (
    <code className="tex" dir="ltr" data-display={display}>
      {tex}
    </code>
  ) : (
    <Typeset node={node} display={display} />
  );
}

/**
 * KaTeX builds elements, not React's.
 * @param {{node: Node, display: boolean}} props
 */
function Typeset({ node, display }) {
  const fill = useCallback(
    /** @param {HTMLElement | null} box */
    (box) => box?.replaceChildren(node),
    [node],
  );
  return <span className="formula" dir="ltr" data-display={display} ref={fill} />;
}
