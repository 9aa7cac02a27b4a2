import { useCallback, useEffect, useState } from "react";

import { browserStorage } from "../lib/browser-storage.js";
import { openLibrary } from "../state/kept/library.js";

/** @typedef {import("../state/kept/library.js").Library} Library */

const KEY = "chatproxy.earlier";
/** How many conversations are read at once. */
const AT_ONCE = 20;

/**
 * The chats that this browser has from before they were kept on the server, and before anybody had
 * said who they are. They are nobody's, and stay so until somebody takes them.
 * @param {Library} library the owner's
 * @param {Storage | null} storage the owner's part of it
 */
export function useEarlier(library, storage) {
  const [earlier, setEarlier] = useState(/** @type {Library | null} */ (null));
  const { owner } = library;

  useEffect(() => {
    if (owner && !storage?.getItem(KEY)) {
      void openLibrary(browserStorage("localStorage"), null).then(setEarlier);
    }
  }, [owner, storage]);

  const leave = useCallback(() => {
    setEarlier(null);
    storage?.setItem(KEY, "left");
  }, [storage]);

  const take = useCallback(async () => {
    setEarlier(null);
    if (earlier) {
      await move(earlier, library);
    }
  }, [earlier, library]);

  return { count: earlier?.conversations.length ?? 0, take, leave };
}

/**
 * @param {Library} from
 * @param {Library} to
 */
async function move(from, to) {
  for (let at = 0; at < from.conversations.length; at += AT_ONCE) {
    const some = from.conversations.slice(at, at + AT_ONCE);
    const ids = some.map(({ id }) => id);
    const messages = await from.read(ids);
    const whole = some.map(({ shut, needed, ...one }, n) => ({ ...one, messages: messages[n] ?? [] }));
    await to.keep(whole);
    whole.forEach((kept) => to.tell({ kept }));
    await from.purge(ids);
  }
}
