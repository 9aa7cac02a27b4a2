import { useLayoutEffect, useRef } from "react";

/**
 * The newest value, for event handlers that must not change with it.
 * @template T
 * @param {T} value
 * @returns {import("react").RefObject<T>}
 */
export function useLatest(value) {
  const latest = useRef(value);
  useLayoutEffect(() => {
    latest.current = value;
  });
  return latest;
}
