import { useCallback, useMemo, useState } from "react";

/**
 * What lies over the page: the name of a part, or nothing.
 * @param {() => void} onClosed
 */
export function usePanel(onClosed) {
  const [name, open] = useState("");
  const close = useCallback(() => {
    open("");
    onClosed();
  }, [onClosed]);
  return useMemo(() => ({ name, open, close }), [name, close]);
}
