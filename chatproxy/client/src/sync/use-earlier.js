import { useCallback, useEffect, useRef, useState } from "react";

import { browserStorage } from "../lib/browser-storage.js";
import { keepDrafts, loadDrafts } from "../state/chats/draft.js";
import { openLibrary } from "../state/kept/library.js";

/**
 * @typedef {import("../state/kept/library.js").Library} Library
 * @typedef {import("../state/chats/model.js").Draft} Draft
 */

const KEY = "chatproxy.earlier";
/** How many conversations are read at once. */
const AT_ONCE = 20;

/**
 * The chats that this browser has from before they were kept on the server, and before anybody had
 * said who they are. They are nobody's, and stay so until somebody takes them.
 * @param {Library} library the owner's
 * @param {Storage | null} storage the owner's part of it
 * @param {(drafts: Record<string, Draft>) => void} onDrafts what was being written in them
 */
export function useEarlier(library, storage, onDrafts) {
  const [earlier, setEarlier] = useState(/** @type {Library | null} */ (null));
  const [count, setCount] = useState(0);
  const [failed, setFailed] = useState(false);
  const taking = useRef(false);
  const { owner } = library;

  useEffect(() => {
    if (owner && !storage?.getItem(KEY)) {
      void openLibrary(browserStorage("localStorage"), null).then((opened) => {
        setEarlier(opened);
        setCount(opened.conversations.length);
      });
    }
  }, [owner, storage]);

  const leave = useCallback(() => {
    setCount(0);
    storage?.setItem(KEY, "left");
  }, [storage]);

  const take = useCallback(async () => {
    if (!earlier || taking.current) {
      return;
    }
    taking.current = true;
    try {
      await move(earlier, library, (ids, left) => {
        onDrafts(takeDrafts(new Set(ids)));
        setCount(left);
      });
      setFailed(false);
    } catch {
      setFailed(true); // there is no room for more: what has not been moved stays where it is
    }
    taking.current = false;
  }, [earlier, library, onDrafts]);

  return { count, failed, take, leave };
}

/**
 * Take what is being written in these chats out of the part of the storages that is nobody's.
 * @param {Set<string>} ids
 */
function takeDrafts(ids) {
  const storages = [browserStorage("localStorage"), browserStorage("sessionStorage")];
  const all = Object.entries(loadDrafts(storages));
  const drafts = Object.fromEntries(all.filter(([id]) => ids.has(id)));
  keepDrafts(storages, drafts, {});
  return drafts;
}

/**
 * Have chats, and the files of what is being written in them, in another library instead.
 * @param {Library} from
 * @param {Library} to
 * @param {(ids: string[], left: number) => void} onMoved these, and how many are left
 * @returns {Promise<void>} rejects if there is no room for more; the others are moved another time
 */
export async function move(from, to, onMoved) {
  while (from.conversations.length > 0) {
    const some = from.conversations.slice(0, AT_ONCE);
    const ids = some.map(({ id }) => id);
    const messages = await from.read(ids);
    const whole = some.map(({ shut, needed, ...one }, n) => ({ ...one, messages: messages[n] ?? [] }));
    await to.keep(whole);
    await Promise.all(whole.map((chat) => copyDraftFiles(from, to, chat)));
    whole.forEach((kept) => to.tell({ kept }));
    await from.purge(ids);
    from.conversations.splice(0, AT_ONCE);
    onMoved(ids, from.conversations.length);
  }
}

/**
 * @param {Library} from
 * @param {Library} to
 * @param {import("../state/chats/model.js").Conversation} chat
 */
async function copyDraftFiles(from, to, { id, messages }) {
  for (const place of ["", ...messages.map((message) => message.id)]) {
    const files = await from.draftFiles.read(id, place);
    if (files) {
      await to.draftFiles.keep(id, place, files);
    }
  }
}
