import { useEffect, useRef } from "react";

/**
 * @typedef {import("../writing/use-attachments.js").Places} Places
 * @typedef {import("./draft-files.js").DraftFiles} DraftFiles
 */

/**
 * Where files are attached, as a key.
 * @param {string} chatId
 * @param {string} messageId
 */
export function placeOf(chatId, messageId) {
  return `${chatId}/${messageId}`; // no id has a slash
}

/**
 * Keep the files of what is being written, and find them again when it is shown for the first time.
 * @param {string} place the one that is shown
 * @param {Places} places
 * @param {(place: string, attachments: import("../../lib/attachments.js").Attachment[]) => void} onFound
 * @param {DraftFiles} kept
 */
export function useKeptFiles(place, places, onFound, kept) {
  const last = useRef(places);
  const known = useRef(/** @type {Set<string>} */ (new Set()));

  useEffect(() => {
    for (const place of new Set([...Object.keys(last.current), ...Object.keys(places)])) {
      const attachments = places[place]?.attachments;
      if (attachments !== last.current[place]?.attachments) {
        const [chatId = "", messageId = ""] = place.split("/");
        const nothing = !attachments || (attachments.length === 0 && messageId === "");
        kept.keep(chatId, messageId, nothing ? null : attachments).catch(() => undefined);
      }
    }
    last.current = places;
  }, [places, kept]);

  useEffect(() => {
    if (known.current.has(place)) {
      return;
    }
    known.current.add(place);
    const [chatId = "", messageId = ""] = place.split("/");
    kept.read(chatId, messageId).then(
      (found) => found && onFound(place, found),
      () => undefined,
    );
  }, [place, onFound, kept]);
}
