/** What is asked of the server about the conversations that it keeps. */

import { API } from "../lib/mount.js";
import { asConversation } from "../state/chats/record.js";

/**
 * @typedef {import("../state/chats/model.js").Conversation} Conversation
 *
 * @typedef {{id: string, revision: number, updatedAt?: number, deleted?: true}} Head
 * @typedef {{conversations: Head[], revision: number, more: boolean}} HeadPage
 *
 * `kept`: at this revision. `changed`: another device was first. `deleted`: for good, at this revision.
 * `full`: the server keeps no more; `large`: not so large a one.
 * @typedef {{outcome: "kept" | "deleted" | "changed" | "full" | "large", revision: number}} Told
 *
 * @typedef {{conversation: Conversation | null, revision: number} | {deletedAt: number} | null} Found
 *   no conversation: it is damaged. Null: there is none
 */

const ADDRESS = `${API}/conversations`;
const LONGEST_TITLE = 1000;
/** Milliseconds for a list, and for a conversation: it may be large, and the network slow. */
const PATIENCE_MS = { list: 30_000, one: 120_000 };
/**
 * Refusals that say all by their status: they may come from a proxy, which has a page to say it with.
 * @type {Record<number, "large" | "full">}
 */
const REFUSED = { 413: "large", 507: "full" };

/** The server does not answer as it should, for now. */
export class Unavailable extends Error {
  /** @param {number} status 0: there is no connection; 408: it takes too long */
  constructor(status) {
    super("the conversations can't be reached");
    this.status = status;
  }
}

/** @param {Record<string, string>} headers those of every request */
export function createServer(headers) {
  /**
   * @param {string} path
   * @param {{method?: string, headers?: Record<string, string>, body?: string}} [options]
   * @param {number[]} [expected] statuses beside success that mean something
   * @returns {Promise<{status: number, told: any}>}
   */
  async function ask(path, options = {}, expected = []) {
    const all = { ...headers, ...options.headers };
    const signal = AbortSignal.timeout(path.startsWith("/") ? PATIENCE_MS.one : PATIENCE_MS.list);
    try {
      const response = await fetch(ADDRESS + path, { ...options, headers: all, signal });
      const { ok, status } = response;
      if (ok || expected.includes(status)) {
        return { status, told: REFUSED[status] ? {} : await response.json() };
      }
      throw new Unavailable(status);
    } catch (error) {
      const isLate = error instanceof DOMException && error.name === "TimeoutError";
      throw error instanceof Unavailable ? error : new Unavailable(isLate ? 408 : 0);
    }
  }

  return {
    /**
     * What was written and deleted after a revision.
     * @param {number} after
     * @returns {Promise<HeadPage>}
     */
    list: async (after) => (await ask(`?after=${after}`)).told,

    /**
     * @param {string} id
     * @returns {Promise<Found>}
     */
    async get(id) {
      const { status, told } = await ask(`/${id}`, {}, [404, 410]);
      if (status === 404) {
        return null;
      }
      const { revision, content } = told;
      return status === 410
        ? { deletedAt: revision }
        : { revision, conversation: content?.id === id ? asConversation(content) : null };
    },

    /**
     * @param {Conversation} conversation
     * @param {number} seen the revision that it was read at; 0: the server has not had it
     * @returns {Promise<Told>}
     */
    async put(conversation, seen) {
      const { id, title, updatedAt, pinned = false } = conversation;
      const body = { title: title.slice(0, LONGEST_TITLE), updatedAt, pinned, content: conversation };
      /** @type {Record<string, string>} */
      const condition = seen ? { "If-Match": `"${seen}"` } : { "If-None-Match": "*" };
      const { status, told } = await ask(
        `/${id}`,
        {
          method: "PUT",
          headers: { "Content-Type": "application/json", ...condition },
          body: JSON.stringify(body),
        },
        [412, 413, 507],
      );
      const outcome = REFUSED[status] ?? (status === 412 ? "changed" : "kept");
      return { outcome, revision: told.revision ?? 0 };
    },

    /**
     * Delete it for good.
     * @param {string} id
     * @param {number} seen
     * @returns {Promise<Told>}
     */
    async remove(id, seen) {
      const options = { method: "DELETE", headers: { "If-Match": `"${seen}"` } };
      const { status, told } = await ask(`/${id}`, options, [404, 412]);
      return { outcome: status === 412 ? "changed" : "deleted", revision: told.revision ?? 0 };
    },
  };
}
