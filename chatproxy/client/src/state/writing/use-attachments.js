import { useCallback, useMemo, useRef, useState } from "react";

import { bytesOf } from "../../lib/attachments.js";
import { FileRefusal } from "../../lib/file-refusal.js";
import { createSessionId } from "../../lib/llm-api.jsx";
import { useLatest } from "../hooks/use-latest.js";
import { placeOf, useKeptFiles } from "../kept/use-kept-files.js";

/**
 * @typedef {import("../../lib/attachments.js").Attachment} Attachment
 *
 * @typedef {object} Pending what is attached to the text in the box, and what came of other files
 * @property {Attachment[]} attachments
 * @property {{id: string, name: string}[]} reading
 * @property {{id: string, name: string, sentence: FileRefusal["sentence"], bytes: number}[]} refused
 *
 * @typedef {Record<string, Pending>} Places by where they are attached: see `placeOf`
 */

/** @type {Attachment[]} */
const NONE = [];

/**
 * The files that go with the next message, for each text that is being written.
 * @param {object} where
 * @param {string} where.chatId
 * @param {string} where.messageId the message that is changed; empty for the next one
 * @param {Attachment[]} [where.before] what the message has that is changed
 * @param {() => import("../../lib/read-file.js").Limits} where.limits
 * @param {import("../kept/draft-files.js").DraftFiles} where.kept
 */
export function useAttachments({ chatId, messageId, before = NONE, limits, kept }) {
  const place = placeOf(chatId, messageId);
  const [places, setPlaces] = useState(/** @type {Places} */ ({}));
  const readings = useRef(/** @type {Map<string, AbortController>} */ (new Map()));
  const latest = useLatest({ place, before, limits, places });
  const untouched = useMemo(() => ({ attachments: before, reading: [], refused: [] }), [before]);
  const pending = places[place] ?? untouched;

  const change = useCallback(
    /**
     * @param {string} place
     * @param {Attachment[]} before
     * @param {(pending: Pending) => Partial<Pending>} to
     */
    (place, before, to) =>
      setPlaces((places) => {
        const old = places[place] ?? { attachments: before, reading: [], refused: [] };
        return { ...places, [place]: { ...old, ...to(old) } };
      }),
    [],
  );

  const find = useCallback(
    (/** @type {string} */ place, /** @type {Attachment[]} */ found) =>
      change(place, [], ({ attachments }) => {
        const newer = attachments.filter(({ id }) => !found.some((one) => one.id === id));
        return { attachments: [...found, ...newer] };
      }),
    [change],
  );
  useKeptFiles(place, places, find, kept);

  const read = useCallback(
    async (/** @type {File} */ file) => {
      const { place, before, limits, places } = latest.current;
      const { bytes, images } = limits();
      const room = bytes - bytesOf(places[place]?.attachments ?? before);
      const id = createSessionId();
      const controller = new AbortController();
      readings.current.set(id, controller);
      const entry = { id, name: file.name };
      change(place, before, ({ reading }) => ({ reading: [...reading, entry] }));
      try {
        const { readFile } = await import("../../lib/read-file.js").catch(notLoaded);
        const attachment = await readFile(file, { bytes: room, images }, controller.signal);
        if (!controller.signal.aborted) {
          change(place, before, ({ attachments }) => ({ attachments: [...attachments, attachment] }));
        }
      } catch (error) {
        const sentence = error instanceof FileRefusal ? error.sentence : "fileDamaged";
        if (!controller.signal.aborted) {
          change(place, before, ({ refused }) => ({
            refused: [...refused, { ...entry, sentence, bytes: Math.max(0, room) }],
          }));
        }
      } finally {
        readings.current.delete(id);
        change(place, before, ({ reading }) => ({ reading: reading.filter((one) => one.id !== id) }));
      }
    },
    [change, latest],
  );

  /** One after the other, so that each knows what the others take. */
  const add = useCallback(
    async (/** @type {Iterable<File>} */ files) => {
      const { place, before } = latest.current;
      const all = [...files]; // a list of the browser's may be emptied meanwhile
      change(place, before, () => ({ refused: [] }));
      for (const file of all) {
        await read(file);
      }
    },
    [change, latest, read],
  );

  const remove = useCallback(
    (/** @type {string} */ id) => {
      const { place, before } = latest.current;
      readings.current.get(id)?.abort();
      change(place, before, ({ attachments, reading }) => ({
        attachments: attachments.filter((one) => one.id !== id),
        reading: reading.filter((one) => one.id !== id),
        refused: [],
      }));
    },
    [change, latest],
  );

  /** What was attached here has been sent, or given up. */
  const clear = useCallback(() => {
    const { place } = latest.current;
    setPlaces((places) => {
      const others = { ...places };
      delete others[place];
      return others;
    });
  }, [latest]);

  return useMemo(() => ({ ...pending, add, remove, clear }), [pending, add, remove, clear]);
}

/** @returns {never} */
function notLoaded() {
  throw new FileRefusal("notLoadedHint");
}
