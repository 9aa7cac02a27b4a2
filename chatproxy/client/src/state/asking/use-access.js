import { useCallback, useEffect, useMemo, useState } from "react";

import { entered, keepAccess, loadAccess, NO_ACCESS, refused } from "./access.js";

/**
 * The access token, if the server wants one. If it could not be asked, that of the tab counts, and
 * the first 401 is its word.
 * @param {Storage | null} storage that of the tab
 * @param {boolean | undefined} told whether it wants one; undefined: it could not be asked
 */
export function useAccess(storage, told) {
  const [required, setRequired] = useState(told);
  const [access, setAccess] = useState(() => (told === false ? NO_ACCESS : loadAccess(storage)));

  useEffect(() => keepAccess(storage, access), [storage, access]);

  const enter = useCallback((/** @type {string} */ text) => {
    const next = entered(text);
    setAccess(next);
    return next.token !== "";
  }, []);
  const forget = useCallback(() => setAccess(NO_ACCESS), []);
  const refuse = useCallback((/** @type {string} */ token) => {
    setRequired((required) => required ?? true);
    setAccess((access) => refused(access, token));
  }, []);

  const asked = Boolean(required) && access.token === "";
  return useMemo(
    () => ({ ...access, asked, enter, forget, refuse }),
    [access, asked, enter, forget, refuse],
  );
}
