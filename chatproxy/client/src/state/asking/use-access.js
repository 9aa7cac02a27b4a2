import { useCallback, useEffect, useMemo, useState } from "react";

import { entered, keepAccess, loadAccess, NO_ACCESS, refused } from "./access.js";

/**
 * The access token, if the server wants one.
 * @param {Storage | null} storage that of the tab
 * @param {boolean} required
 */
export function useAccess(storage, required) {
  const [access, setAccess] = useState(() => (required ? loadAccess(storage) : NO_ACCESS));

  useEffect(() => keepAccess(storage, access), [storage, access]);

  const enter = useCallback((/** @type {string} */ text) => {
    const next = entered(text);
    setAccess(next);
    return next.token !== "";
  }, []);
  const forget = useCallback(() => setAccess(NO_ACCESS), []);
  const refuse = useCallback(
    (/** @type {string} */ token) => setAccess((access) => refused(access, token)),
    [],
  );

  const asked = required && access.token === "";
  return useMemo(
    () => ({ ...access, asked, enter, forget, refuse }),
    [access, asked, enter, forget, refuse],
  );
}
