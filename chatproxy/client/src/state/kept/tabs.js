/**
 * The tabs that show the same library tell each other what they have kept (a BroadcastChannel), so
 * that all of them show it. What comes before a tab listens waits for that: the tab may have read the
 * library before it was written there.
 *
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {{kept: Conversation} | {gone: string}} News what was kept, or deleted for good
 *
 * @typedef {object} TabListeners
 * @property {(conversation: Conversation) => void} onKept
 * @property {(id: string) => void} onDeleted
 */

/** @param {string} name of the library */
export function createTabs(name) {
  const channel = new BroadcastChannel(name);
  /** @type {Set<(news: News) => void>} */
  const here = new Set();
  /** @type {News[]} */
  const early = [];
  const wait = (/** @type {MessageEvent} */ { data }) => void early.push(data);
  channel.addEventListener("message", wait);

  /** @param {News} news */
  const tellOthers = (news) => channel.postMessage(news);

  return {
    tellOthers,
    /** @param {News} news also for this tab */
    tellAll(news) {
      tellOthers(news);
      here.forEach((take) => take(news));
    },
    /**
     * @param {TabListeners} listeners
     * @returns {() => void} ends it
     */
    listen({ onKept, onDeleted }) {
      /** @param {News} news */
      function take(news) {
        if ("kept" in news) {
          onKept(news.kept);
        } else {
          onDeleted(news.gone);
        }
      }
      const hear = (/** @type {MessageEvent} */ { data }) => take(data);
      here.add(take);
      channel.removeEventListener("message", wait);
      channel.addEventListener("message", hear);
      early.splice(0).forEach(take);
      return () => {
        here.delete(take);
        channel.removeEventListener("message", hear);
      };
    },
  };
}
