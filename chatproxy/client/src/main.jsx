import { startTransition, StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { startLanguage } from "./i18n/current.js";
import { browserStorage } from "./lib/browser-storage.js";
import { stayAboveKeyboard } from "./lib/keyboard.js";
import { loadPageSettings } from "./lib/page-settings.js";
import { ChatPage } from "./pages/ChatPage.jsx";
import { loadAccess } from "./state/asking/access.js";
import { openLibrary } from "./state/kept/library.js";
import { conversationIn } from "./state/view/address.js";
import "./styles/index.css";
import { findOwner, keepOwner, keptOwner, storageOf } from "./sync/owner.js";

const root = createRoot(/** @type {HTMLElement} */ (document.getElementById("root")));
stayAboveKeyboard();

const storage = browserStorage("localStorage");
const tabStorage = browserStorage("sessionStorage");
const shown = conversationIn(location);
const guess = keptOwner(tabStorage);
const [settings, guessed] = await Promise.all([
  loadPageSettings(),
  openLibrary(storageOf(storage, guess), shown, guess),
  startLanguage(storage),
]);
const owner = await findOwner(settings.conversations, loadAccess(tabStorage).token, guess);
keepOwner(tabStorage, owner);
const own = storageOf(storage, owner);
const library = owner === guess ? guessed : await openLibrary(own, shown, owner);

// In slices of some milliseconds, between which a slow phone may scroll and draw.
startTransition(() =>
  root.render(
    <StrictMode>
      <ChatPage
        settings={settings}
        library={library}
        storage={own}
        tabStorage={storageOf(tabStorage, owner)}
      />
    </StrictMode>,
  ),
);
