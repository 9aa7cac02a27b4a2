import { useEffect, useRef, useState } from "react";

const KEPT = "Chats are kept in this browser only.";
const NOT_LASTING = "This browser lets the page keep nothing. Chats last as long as this tab.";
const FULL = "There is no room for more. What you write now is lost when this tab is closed.";
const FAILED = "The browser could not keep the last changes. It is tried again.";
const SAVE_NOW = "Save all chats to a file";
const MORE = "Storage and files";
const USED = (/** @type {string} */ used, /** @type {string} */ bound) => `${used} of ${bound} used.`;
const ACTIONS = {
  markdown: "Save all as Markdown",
  json: "Save all as JSON",
  import: "Take in a file",
  file: "File with chats",
  notify: "Notify me when an answer is complete",
  persist: "Ask the browser not to clear them",
  persisted: "The browser does not clear them by itself.",
};
const REPORTS = {
  "no-chats": "That is no file with chats of this page.",
  "too-large": "That file is too large.",
};

/**
 * @param {import("../state/use-transfer.js").ImportReport} report
 * @returns {string}
 */
function reported(report) {
  if (report.outcome !== "imported") {
    return REPORTS[report.outcome];
  }
  const { added, completed, known, damaged } = report;
  const parts = [
    `${added} new`,
    completed > 0 && `${completed} completed`,
    known > 0 && `${known} here already`,
    damaged > 0 && `${damaged} damaged and left out`,
  ];
  return `Chats taken in: ${parts.filter(Boolean).join(", ")}.`;
}

/**
 * Where the conversations are, how much room they have, and the way to files and back.
 * @param {object} props
 * @param {ReturnType<typeof import("../state/use-chat.js").useChat>} props.chat
 * @param {ReturnType<typeof import("../state/use-transfer.js").useTransfer>} props.transfer
 * @param {ReturnType<typeof import("../state/use-notifications.js").useNotifications>} props.notifications
 */
export function ChatListFoot({ chat, transfer, notifications }) {
  const { library, trouble } = chat;
  const [open, setOpen] = useState(false);
  const any = chat.state.conversations.length > 0;
  return (
    <div className="list-foot">
      <Where lasting={library.lasting} trouble={trouble} any={any} />
      {(trouble === "full" || !library.lasting) && any && (
        <button type="button" className="text-button" onClick={() => transfer.save(null, "json")}>
          {SAVE_NOW}
        </button>
      )}
      <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary className="small-print">{MORE}</summary>
        {open && (
          <div className="list-actions">
            {library.lasting && <Room library={library} />}
            {any && (
              <>
                <Action name={ACTIONS.markdown} onAct={() => transfer.save(null, "md")} />
                <Action name={ACTIONS.json} onAct={() => transfer.save(null, "json")} />
              </>
            )}
            <Import onFile={transfer.load} />
            {notifications.possible && (
              <label className="switch">
                <input
                  type="checkbox"
                  role="switch"
                  checked={notifications.on}
                  onChange={(event) => notifications.toggle(event.target.checked)}
                />
                <span>{ACTIONS.notify}</span>
              </label>
            )}
          </div>
        )}
      </details>
    </div>
  );
}

/**
 * @param {object} props
 * @param {boolean} props.lasting
 * @param {import("../state/keeper.js").Trouble} props.trouble
 * @param {boolean} props.any
 */
function Where({ lasting, trouble, any }) {
  if (!lasting) {
    return <p className="list-trouble">{NOT_LASTING}</p>;
  }
  if (trouble) {
    return (
      <p className="list-trouble" role="alert">
        {trouble === "full" ? FULL : FAILED}
      </p>
    );
  }
  return any ? <p className="small-print">{KEPT}</p> : null;
}

/** @param {{library: import("../state/library.js").Library}} props */
function Room({ library }) {
  const [room, setRoom] = useState(/** @type {import("../state/library.js").Room | null} */ (null));
  const [lasts, setLasts] = useState(/** @type {boolean | undefined} */ (undefined));

  useEffect(() => {
    library.room().then(setRoom);
    navigator.storage?.persisted?.().then(setLasts);
  }, [library]);

  return (
    <>
      {room && <p className="small-print">{USED(bytes(room.used), bytes(room.bound))}</p>}
      {lasts === true && <p className="small-print">{ACTIONS.persisted}</p>}
      {lasts === false && (
        <Action
          name={ACTIONS.persist}
          onAct={() => navigator.storage.persist().then(setLasts)}
        />
      )}
    </>
  );
}

/** @param {{onFile: (file: File) => Promise<import("../state/use-transfer.js").ImportReport>}} props */
function Import({ onFile }) {
  const [report, setReport] = useState("");
  const box = useRef(/** @type {HTMLInputElement | null} */ (null));
  return (
    <>
      <Action name={ACTIONS.import} onAct={() => box.current?.click()} />
      <input
        ref={box}
        type="file"
        hidden
        accept=".json,application/json"
        aria-label={ACTIONS.file}
        onChange={async (event) => {
          const input = event.target;
          const file = input.files?.[0];
          if (file) {
            setReport(reported(await onFile(file)));
            input.value = "";
          }
        }}
      />
      <p className="small-print" role="status">
        {report}
      </p>
    </>
  );
}

/** @param {{name: string, onAct: () => void}} props */
function Action({ name, onAct }) {
  return (
    <button type="button" className="text-button" onClick={onAct}>
      {name}
    </button>
  );
}

/**
 * @param {number} count
 * @returns {string} such as `12 MB`
 */
function bytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  const amount = count / 1000 ** power;
  return `${amount.toLocaleString("en", { maximumFractionDigits: amount < 10 ? 1 : 0 })} ${units[power]}`;
}
