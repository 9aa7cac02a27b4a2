import { useEffect, useRef } from "react";

import { browserStorage } from "../lib/browser-storage.js";
import { keepOwner, ownerNow, takeDraft } from "./owner.js";

/**
 * Have the page begin again if it is to show another owner's conversations: when a token is entered
 * that is somebody else's, and when it is forgotten. So nothing of the one is left for the other.
 * @param {import("../state/kept/library.js").Library} library
 * @param {ReturnType<typeof import("../state/asking/use-access.js").useAccess>} access
 * @param {boolean} kept whether conversations are kept on the server
 */
export function useOwner({ owner }, { token, refused }, kept) {
  const before = useRef(token);

  useEffect(() => {
    const old = before.current;
    before.current = token;
    if (!kept || token === old) {
      return;
    }
    if (!token && !refused && owner) {
      beginAgain("");
    }
    if (token) {
      void ownerNow(token, owner).then((next) => {
        if (next && next !== owner && before.current === token) {
          beginAgain(next);
        }
      });
    }
  }, [kept, owner, token, refused]);
}

/**
 * The server has refused this owner's conversations to who asks: somebody else has logged in.
 * @param {string} token
 * @param {string} owner
 */
export async function beginAgainIfAnother(token, owner) {
  const next = await ownerNow(token, owner);
  if (next !== owner) {
    beginAgain(next);
  }
}

/** @param {string} owner */
function beginAgain(owner) {
  const storages = /** @type {const} */ (["localStorage", "sessionStorage"]).map(browserStorage);
  keepOwner(browserStorage("sessionStorage"), owner);
  // After the page has kept its drafts, as it does when it is left.
  addEventListener("pagehide", () => storages.forEach((storage) => takeDraft(storage, owner)));
  // The address may be that of a conversation of the other one's.
  history.replaceState(null, "", location.pathname + location.search);
  location.reload();
}
