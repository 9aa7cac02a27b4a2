import { useEffect, useState } from "react";

/**
 * The time, once a second, in milliseconds since 1970.
 * @returns {number}
 */
export function useNow() {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
