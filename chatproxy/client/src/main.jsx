import { startTransition, StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { startLanguage } from "./i18n/current.js";
import { browserStorage } from "./lib/browser-storage.js";
import { stayAboveKeyboard } from "./lib/keyboard.js";
import { loadPageSettings } from "./lib/page-settings.js";
import { ChatPage } from "./pages/ChatPage.jsx";
import { conversationIn } from "./state/address.js";
import { openLibrary } from "./state/library.js";
import "./styles/index.css";

const root = createRoot(/** @type {HTMLElement} */ (document.getElementById("root")));
stayAboveKeyboard();

const storage = browserStorage("localStorage");
const tabStorage = browserStorage("sessionStorage");
const [settings, library] = await Promise.all([
  loadPageSettings(),
  openLibrary(storage, conversationIn(location)),
  startLanguage(storage),
]);

// In slices of some milliseconds, between which a slow phone may scroll and draw.
startTransition(() =>
  root.render(
    <StrictMode>
      <ChatPage settings={settings} library={library} storage={storage} tabStorage={tabStorage} />
    </StrictMode>,
  ),
);
