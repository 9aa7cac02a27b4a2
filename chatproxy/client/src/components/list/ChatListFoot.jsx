import { useEffect, useRef, useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { TextButton } from "../parts/TextButton.jsx";

/**
 * @param {import("../../i18n/language.js").Language} language
 * @param {import("../../state/view/use-transfer.js").ImportReport} report
 * @returns {string}
 */
function reported({ say, list }, report) {
  if (report.outcome !== "imported") {
    return say(`import.${report.outcome}`);
  }
  const { added, completed, known, damaged } = report;
  const parts = [
    say("importedNew", { count: added }),
    completed > 0 && say("importedCompleted", { count: completed }),
    known > 0 && say("importedKnown", { count: known }),
    damaged > 0 && say("importedDamaged", { count: damaged }),
  ];
  return say("imported", { parts: list(parts.filter((part) => part !== false)) });
}

/**
 * Where the conversations are, how much room they have, and the way to files and back.
 * @param {object} props
 * @param {ReturnType<typeof import("../../state/asking/use-chat.js").useChat>} props.chat
 * @param {ReturnType<typeof import("../../state/view/use-transfer.js").useTransfer>} props.transfer
 * @param {ReturnType<typeof import("../../state/view/use-notifications.js").useNotifications>} props.notifications
 */
export function ChatListFoot({ chat, transfer, notifications }) {
  const { say } = useLanguage();
  const { library } = chat;
  const [open, setOpen] = useState(false);
  const any = chat.state.conversations.length > 0;
  return (
    <div className="list-foot">
      {any && library.lasting && <p className="small-print">{say("chatsKeptHere")}</p>}
      <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary className="small-print">{say("storageAndFiles")}</summary>
        {open && (
          <div className="list-actions">
            {library.lasting && <Room library={library} />}
            {any && (
              <>
                <TextButton name={say("saveAllAsMarkdown")} onAct={() => transfer.save(null, "md")} />
                <TextButton name={say("saveAllAsJson")} onAct={() => transfer.save(null, "json")} />
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
                <span>{say("notifyMe")}</span>
              </label>
            )}
          </div>
        )}
      </details>
    </div>
  );
}

/** @param {{library: import("../../state/kept/library.js").Library}} props */
function Room({ library }) {
  const { say, size } = useLanguage();
  const [room, setRoom] = useState(/** @type {import("../../state/kept/library.js").Room | null} */ (null));
  const [lasts, setLasts] = useState(/** @type {boolean | undefined} */ (undefined));

  useEffect(() => {
    library.room().then(setRoom);
    navigator.storage?.persisted?.().then(setLasts);
  }, [library]);

  return (
    <>
      {room && (
        <p className="small-print">
          {say("roomUsed", { used: size(room.used), bound: size(room.bound) })}
        </p>
      )}
      {lasts === true && <p className="small-print">{say("persisted")}</p>}
      {lasts === false && (
        <TextButton name={say("persist")} onAct={() => navigator.storage.persist().then(setLasts)} />
      )}
    </>
  );
}

/** @param {{onFile: (file: File) => Promise<import("../../state/view/use-transfer.js").ImportReport>}} props */
function Import({ onFile }) {
  const language = useLanguage();
  const { say } = language;
  const [report, setReport] = useState(
    /** @type {import("../../state/view/use-transfer.js").ImportReport | null} */ (null),
  );
  const box = useRef(/** @type {HTMLInputElement | null} */ (null));
  return (
    <>
      <TextButton name={say("takeInFile")} onAct={() => box.current?.click()} />
      <input
        ref={box}
        type="file"
        hidden
        accept=".json,application/json"
        aria-label={say("chatsFile")}
        onChange={async (event) => {
          const input = event.target;
          const file = input.files?.[0];
          if (file) {
            setReport(await onFile(file));
            input.value = "";
          }
        }}
      />
      <p className="small-print" role="status">
        {report && reported(language, report)}
      </p>
    </>
  );
}
