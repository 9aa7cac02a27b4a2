/**
 * Whose conversations this tab shows, if they are kept on the server. Each owner has a library of
 * their own in the browser, and a part of its storages, named by a key that the server gives
 * (`page.json`): who uses the same browser after them finds nothing of it in the page. What is in the
 * browser from before stays where it is, and is nobody's.
 *
 * The tab remembers the key for as long as the token, for a server that can't be asked.
 */

import { LOOKS, partOf } from "../lib/browser-storage.js";
import { addressAt } from "../lib/mount.js";
import { headersFor } from "../state/asking/access.js";

const KEY = "chatproxy.owner";
/** What is the browser's, or the tab's, and not an owner's. */
const SHARED = new Set([KEY, "chatproxy.token", ...LOOKS]);
/** Milliseconds that the server may take to say whose they are. */
const PATIENCE_MS = 5000;
/** What the server gives; it becomes the name of a database. */
const SOUND = /^[0-9a-f]{16,64}$/;
/** The text that was begun before anybody had said who they are. */
const NEW_DRAFT = "chatproxy.draft.";

/** @typedef {import("../lib/page-settings.js").PageSettings} PageSettings */

/**
 * @param {Storage | null} tabStorage
 * @returns {string} empty: nobody
 */
export function keptOwner(tabStorage) {
  const kept = tabStorage?.getItem(KEY) ?? "";
  return SOUND.test(kept) ? kept : "";
}

/**
 * Remember whose the conversations are that the tab shows from its next load on.
 * @param {Storage | null} tabStorage
 * @param {string} owner
 */
export function keepOwner(tabStorage, owner) {
  try {
    if (owner) {
      tabStorage?.setItem(KEY, owner);
    } else {
      tabStorage?.removeItem(KEY);
    }
  } catch {
    // A full storage: the server says it again.
  }
}

/**
 * Whose conversations are to be shown.
 * @param {PageSettings["conversations"]} told what the server says to whoever has no token
 * @param {string} token
 * @param {string} kept what the tab remembers
 * @returns {Promise<string>} the owner; empty: nobody
 */
export async function findOwner(told, token, kept) {
  return told && token ? ownerNow(token, kept) : ownerIn(told, kept);
}

/**
 * Whose they are by now: the login may have changed since the page was loaded.
 * @param {string} token
 * @param {string} kept
 */
export async function ownerNow(token, kept) {
  return ownerIn(await askOwner(token), kept);
}

/**
 * @param {PageSettings["conversations"]} found
 * @param {string} kept
 */
function ownerIn(found, kept) {
  if (found === undefined) {
    return kept; // the server was not there to say
  }
  const owner = found?.owner ?? "";
  return SOUND.test(owner) ? owner : "";
}

/**
 * @param {string} token
 * @returns {Promise<PageSettings["conversations"]>}
 */
async function askOwner(token) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  try {
    // Without the query it would be what was loaded in advance, for somebody without a token.
    const address = addressAt("page.json?owner");
    const response = await fetch(address, { headers: headersFor(token), signal });
    return (await response.json()).conversations;
  } catch {
    return undefined;
  }
}

/**
 * An owner's part of a storage.
 * @param {Storage | null} storage
 * @param {string} owner
 * @returns {Storage | null}
 */
export function storageOf(storage, owner) {
  return storage && owner ? partOf(storage, `chatproxy.of.${owner}.`, SHARED) : storage;
}

/**
 * What was begun before anybody had said who they are, is theirs who do.
 * @param {Storage | null} storage
 * @param {string} owner
 */
export function takeDraft(storage, owner) {
  const draft = owner ? storage?.getItem(NEW_DRAFT) : null;
  const own = storageOf(storage, owner);
  if (draft && own?.getItem(NEW_DRAFT) === null) {
    own.setItem(NEW_DRAFT, draft);
    storage?.removeItem(NEW_DRAFT);
  }
}
