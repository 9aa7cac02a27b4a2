import { useMemo } from "react";

import { isRun } from "../../lib/models.js";

/**
 * How the chat in view asks: as was chosen for all chats, for this one, and by the server.
 * @param {import("./use-choice.js").Choice} choice
 * @param {import("../chats/chat-settings.js").ChatSettings} own the chat's
 * @param {import("../../lib/page-settings.js").PageSettings} page
 * @returns {import("../chats/payload.js").How}
 */
export function useHow(choice, own, page) {
  return useMemo(
    () => ({
      ...choice,
      defaults: page.defaults,
      settings: { ...page.defaults, ...own },
      takesImages: page.visionModels.includes(choice.model),
      maxBytes: page.maxBodyBytes,
      prefix: page.prefix && !isRun(choice.model),
      simulate: page.simulate,
    }),
    [choice, own, page],
  );
}
