import { useCallback, useEffect, useRef, useState } from "react";

import { headersFor } from "../state/asking/access.js";
import { useLatest } from "../state/hooks/use-latest.js";
import { createServer, Unavailable } from "./server.js";
import { synchronize } from "./synchronize.js";
import { beginAgainIfAnother, useOwner } from "./use-owner.js";

/** @typedef {import("./synchronize.js").Left} Left */

/** Milliseconds from a change to its being sent: the next one may follow at once. */
const PAUSE_MS = 1500;
/** Milliseconds between two looks, while the page is in sight. */
const LOOK_MS = 15_000;

/**
 * Keep the server's copies of the conversations and this browser's the same: at the start, when the
 * page comes into sight, now and then while it is, and after each change. Without the server all goes
 * on in the browser, and is sent later.
 * @param {import("../state/kept/library.js").Library} library
 * @param {ReturnType<typeof import("../state/asking/use-access.js").useAccess>} access
 * @param {boolean} kept whether conversations are kept on the server
 * @returns {Left}
 */
export function useSync(library, access, kept) {
  useOwner(library, access, kept);
  const { owner, outbox, onUnsent, tell } = library;
  const latest = useLatest(access);
  const [left, setLeft] = useState(/** @type {Left} */ (null));
  const refused = useRef(/** @type {import("./synchronize.js").Refused} */ (new Map()));
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));

  const round = useCallback(async () => {
    clearTimeout(timer.current);
    timer.current = undefined;
    const { token, asked, refuse } = latest.current;
    if (!outbox || asked) {
      return;
    }
    try {
      const server = createServer({ ...headersFor(token), "X-Owner-Key": owner });
      const next = await inTurn(`chatproxy.sync.${owner}`, () =>
        synchronize({
          server,
          outbox,
          refused: refused.current,
          onTaken: (kept) => tell({ kept }),
          onGone: (gone) => tell({ gone }),
        }),
      );
      setLeft(next);
    } catch (error) {
      if (error instanceof Unavailable && error.status === 401) {
        refuse(token);
      }
      if (error instanceof Unavailable && error.status === 409) {
        await beginAgainIfAnother(token, owner);
      }
    }
  }, [owner, outbox, tell, latest]);

  useEffect(() => {
    const look = () => document.visibilityState === "visible" && void round();
    const soon = setTimeout(look);
    const often = outbox ? setInterval(look, LOOK_MS) : undefined;
    const events = /** @type {const} */ (["focus", "online"]);
    events.forEach((name) => addEventListener(name, look));
    document.addEventListener("visibilitychange", look);
    const end = onUnsent(() => {
      clearTimeout(timer.current);
      timer.current = setTimeout(round, PAUSE_MS);
    });
    return () => {
      end();
      clearTimeout(soon);
      clearInterval(often);
      events.forEach((name) => removeEventListener(name, look));
      document.removeEventListener("visibilitychange", look);
    };
  }, [outbox, onUnsent, round, access.token]);

  return left;
}

/**
 * One tab after the other, as they would do the same.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function inTurn(name, work) {
  // Over plain HTTP there are no locks: then two tabs may do the same, which does no harm.
  return navigator.locks ? navigator.locks.request(name, work) : work();
}
