/**
 * A storage like the browser's.
 * @param {number} room how many characters fit
 * @returns {Storage}
 */
export function storageOf(room = 1e9) {
  /** @type {Map<string, string>} */
  const items = new Map();
  const used = () => [...items].reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  return {
    get length() {
      return items.size;
    },
    clear: () => items.clear(),
    getItem: (key) => items.get(key) ?? null,
    key: (index) => [...items.keys()][index] ?? null,
    removeItem: (key) => void items.delete(key),
    setItem(key, value) {
      const before = items.get(key);
      items.delete(key);
      if (used() + key.length + value.length > room) {
        if (before !== undefined) {
          items.set(key, before);
        }
        throw new DOMException("full", "QuotaExceededError");
      }
      items.set(key, value);
    },
  };
}
