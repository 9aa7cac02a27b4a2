/**
 * What the page says, in English: each sentence by its name. The other files of this folder have the
 * same names and the same `{values}`; a test holds that.
 *
 * `Message`, `Send`, `Stop AI` and `AI response stopped by user.` are fixed: others rely on them. A
 * name with a dot belongs to a family: what follows the dot is a code of the server or of the page.
 */

export const en = {
  // The list of chats
  chats: "Chats",
  newChat: "New chat",
  closeList: "Close the list",
  deleteChat: "Delete chat",
  deleteChatNamed: "Delete chat: {title}",
  chatDeleted: "Chat deleted.",
  undo: "Undo",
  chatsKeptHere: "Chats are kept in this browser only.",
  answerRunsHere: "An answer runs here",
  searchChats: "Search chats",
  searching: "Searching…",
  nothingFound: "Nothing found.",
  hits: { one: "{count} hit", other: "{count} hits" },
  pinned: "Pinned",
  showMore: "Show more",
  more: "More",
  moreForChat: "More for chat: {title}",
  nameOfChat: "Name of the chat",
  rename: "Rename",
  pin: "Pin",
  unpin: "Unpin",
  saveAsMarkdown: "Save as Markdown",
  saveAsJson: "Save as JSON",
  deletedChats: "Deleted ({count})",
  deletedChatsKept: "Deleted chats are kept for 30 days.",
  restore: "Restore",
  restoreChat: "Restore chat: {title}",
  purgeDeleted: "Delete all of them now",
  chatRestored: "Chat restored.",
  chatIsDeleted: "This chat is deleted.",
  noChatHere: "There is no chat at this address in this browser.",

  // Where chats are kept, and files with them
  notLasting: "This browser lets the page keep nothing. Chats last as long as this tab.",
  "trouble.full": "There is no room for more. What you write now is lost when this tab is closed.",
  "trouble.failed": "The browser could not keep the last changes. It is tried again.",
  "unsent.full":
    "The server has no room for more of your chats. What is new is in this browser only, and not on your other devices.",
  "unsent.large":
    "A chat is too large for the server. It is in this browser only, and not on your other devices.",
  "unsent.refused":
    "The server could not take a chat. It is in this browser only, and not on your other devices. It is tried again.",
  earlierChats: {
    one: "This browser has {count} chat from before you said who you are.",
    other: "This browser has {count} chats from before you said who you are.",
  },
  earlierFailed: {
    one: "There was no room to add {count} chat from before you said who you are. It stays where it was.",
    other: "There was no room to add {count} chats from before you said who you are. They stay where they were.",
  },
  takeEarlier: "Add to mine",
  leaveEarlier: "Leave",
  saveAllNow: "Save all chats to a file",
  storageAndFiles: "Storage and files",
  roomUsed: "{used} of {bound} used.",
  persist: "Ask the browser not to clear them",
  persisted: "The browser does not clear them by itself.",
  saveAllAsMarkdown: "Save all as Markdown",
  saveAllAsJson: "Save all as JSON",
  takeInFile: "Take in a file",
  chatsFile: "File with chats",
  "import.no-chats": "That is no file with chats of this page.",
  "import.too-large": "That file is too large.",
  imported: "Chats taken in: {parts}.",
  importedNew: "{count} new",
  importedCompleted: "{count} completed",
  importedKnown: "{count} here already",
  importedDamaged: "{count} damaged and left out",
  notifyMe: "Notify me when an answer is complete",
  endedEarly: "The answer has ended early.",

  // Above the conversation
  model: "Model",
  runs: "Runs",
  thinking: "Thinking",
  forgetToken: "Forget token",

  // A new chat
  emptyHeading: "What would you like to know?",
  "suggestion.1": "Explain how DNS finds an address, step by step.",
  "suggestion.2": "Write a Python function that merges overlapping intervals, with tests.",
  "suggestion.3": "Compare three ways to store passwords, in a table.",

  // The conversation
  conversation: "Conversation",
  jumpToLatest: "Jump to the latest",
  you: "You",
  assistant: "DeepSeek",
  copyMessage: "Copy message",
  editMessage: "Edit message",
  editAndSendAgain: "Edit and send again",
  copyAnswer: "Copy answer",
  regenerateAnswer: "Regenerate answer",
  askAgain: "Ask again",
  tryAgain: "Try again",
  editAnswer: "Edit answer",
  answerText: "Text of the answer",
  answerEditorHint: "Saved as another version of this answer. Nothing is sent until you ask.",
  saveAnswer: "Save",
  previousVersion: "Previous version",
  nextVersion: "Next version",
  versionOf: "Version {at} of {count}",
  "made.continued": "continued from an earlier version",
  "made.edited": "edited by you",
  "goOn.text": "Continue",
  "goOn.question": "Ask to continue",
  "goOnHint.text": "The model goes on with this text, in another version of it",
  "goOnHint.question": "Sends “{question}” as your next message",
  goOnQuestion: "Continue.",
  copied: "Copied",
  codeLabel: "code",
  codeIn: "Code {language}",
  copyCode: "Copy code",
  showCode: "Show code",
  showDiagram: "Show diagram",
  diagram: "Diagram",
  diagramFailed: "This diagram can’t be drawn. Its code may have a mistake.",
  table: "Table",
  formula: "Formula",
  details: "Details",
  done: "Done",
  notDone: "Not done",
  footnotes: "Footnotes",
  footnote: "Footnote {number}",
  backToText: "Back to the text",
  elsewhere: "You have an answer running elsewhere.",
  stopIt: "Stop it",

  // The thinking before an answer
  thinkingFor: "Thinking… {time}",
  thought: "Thought",
  thoughtBriefly: "Thought for under {time}",
  thoughtFor: "Thought for {time}",

  // What a run does on its way to an answer
  stepsNow: "Working: {names}",
  steps: { one: "{count} step", other: "{count} steps" },
  "step.call": "Call",
  "step.tool": "Tool",
  "step.event": "Event",
  "stepState.running": "running",
  "stepState.finished": "done",
  "stepState.failed": "failed",
  "stepState.stopped": "stopped",
  "stepState.unknown": "end not known",
  stepInput: "Called with",
  stepOutput: "Result",
  stepSays: "What it says",
  stoppedCalls: "stopped with it: {names}",
  leftBehind: "not ended in time, and left behind: {names}",

  // What an answer came to
  "account.tokens": {
    one: "question {prompt}, answer {completion} token",
    other: "question {prompt}, answer {completion} tokens",
  },
  "account.about": "about {value}",
  "account.came": { one: "{tokens} token came", other: "{tokens} tokens came" },
  "account.savedAtMost": "at most {tokens} more were saved",
  "account.savedLikely": "probably about {tokens}",

  // What a running answer is doing
  "status.queued": "Not sent yet: waiting for a free connection, {time}",
  "status.upstream_queued": "Queued at DeepSeek, {time}",
  "status.stalled": "Stalled: nothing has come for {time}",
  "status.reconnecting": "Reconnecting: the connection was lost {time} ago",
  "status.unreached": "No connection to the server: trying again, {time}",
  "status.waiting": "Waiting for DeepSeek, {time}",
  "status.working": "Working, {time}",

  // The same for those who listen to the page
  "heard.waiting": "Sent. Waiting for DeepSeek.",
  "heard.working": "Sent. Working.",
  "heard.queued": "Not sent yet. Waiting for a free connection.",
  "heard.upstream_queued": "Queued at DeepSeek.",
  "heard.thinking": "Thinking.",
  "heard.answering": "Answering.",
  "heard.stalled": "Nothing has come for a while.",
  "heard.reconnecting": "The connection was lost. Reconnecting.",
  "heard.unreached": "There is no connection to the server. Trying again.",
  "heard.finished": "The answer is complete.",
  "heard.stopped": "Stopped.",
  "heard.incomplete": "No complete answer: {reason}",

  // Why an answer was stopped, by the server's reason
  stopped: "The answer was stopped.",
  "stopped.user": "AI response stopped by user.",
  "stopped.disconnect": "The connection to this answer was closed, so it was stopped.",
  "stopped.shutdown": "The server was restarted, so the answer was stopped.",
  "stopped.deadline": "The answer took longer than allowed and was stopped.",
  "stopped.idle": "DeepSeek sent nothing for a long time, so the answer was stopped.",
  "stopped.lost": "Another worker of the server took this answer over, so it was stopped.",
  "stopped.replaced": "A newer question took this one's place, so the answer was stopped.",
  "stopped.budget": "The budget is used up, so the answer was stopped.",
  "stopped.reload": "The page was closed or reloaded here, so the answer was stopped.",

  // Why there is no answer, or not all of it, by the server's code
  failed: "The answer failed.",
  failedSaying: "{message}",
  "failed.upstream_balance":
    "DeepSeek says the balance is used up. It has to be topped up there first.",
  "failed.upstream_busy": "DeepSeek is too busy to answer now. Try again in a moment.",
  "failed.upstream_auth":
    "DeepSeek does not accept this server's key. Its operator has to look after it.",
  "failed.upstream_unreachable": "DeepSeek cannot be reached from the server.",
  "failed.upstream_timeout": "DeepSeek sent nothing in time.",
  "failed.too_many_sessions":
    "Too many answers are running at once. Stop one, or try again in a moment.",
  "failed.body_too_large":
    "This conversation has become too long to send. Begin a new chat, or shorten it.",
  "failed.shutting_down": "The server is about to restart. Try again in a moment.",
  "failed.session_active":
    "This question is being answered already. Send it again to have a new answer.",
  "failed.unauthorized":
    "The server did not let this message through: you are not signed in, or no longer.",
  "failed.unreachable": "The server cannot be reached. Are you connected?",
  "failed.not_sent":
    "This question was not sent: the page was closed or reloaded before that.",
  "failed.not_a_stream": "Something between this page and the server answered in its place.",
  brokeOff: "The answer broke off before it was complete.",
  nothingCame: "There was no connection to the server, and none of the answer has come.",
  lostAll: "This answer was lost before any of its text came.",
  lostRest: {
    one: "The rest of this answer was lost: the {count} character above is all that came.",
    other: "The rest of this answer was lost: the {count} characters above are all that came.",
  },

  // Why an answer ended in an unusual way, by DeepSeek's `finish_reason`
  "ended.length": "The answer ends here because it reached its greatest length.",
  "ended.content_filter": "The answer ends here because DeepSeek's content filter ended it.",
  "ended.insufficient_system_resource":
    "The answer ends here because DeepSeek ran out of resources.",

  // The small print after a Stop
  "stop.unconfirmed": "the Stop is not confirmed yet and is still being tried",
  "stop.nothing-to-stop":
    "the server had nothing to stop: the answer had ended there, or had not begun",
  "stop.refused": "the server refused this Stop, so the answer may go on there",
  stopRefusedSaying: "{sentence} ({message})",
  stopEndUnconfirmed:
    "the server stopped it; the close of its connection to DeepSeek is not confirmed",
  stoppedIn: "stopped in {time}",
  joined: "{first}, {second}",
  chunksReceived: { one: "{count} chunk received", other: "{count} chunks received" },

  // The access token
  accessToken: "Access token",
  continue: "Continue",
  tokenWanted: "This server needs an access token.",
  tokenRefused: "That token was not accepted.",

  // The box to write in
  message: "Message",
  writeMessage: "Write a message",
  send: "Send",
  stopAI: "Stop AI",
  cancel: "Cancel",
  editing: "You are changing an earlier message. It is kept beside the new one.",
  composerHint:
    "Enter sends, Shift + Enter begins a new line, Escape stops. Answers can be wrong.",

  // What lies over the page
  close: "Close",
  notLoaded: "This part is missing",
  notLoadedHint:
    "This part of the page could not be loaded. Check the connection, then reload the page.",

  // The settings
  settings: "Settings",
  thisChat: "This chat",
  "setting.system": "System prompt",
  "setting.temperature": "Temperature",
  "setting.max_tokens": "Longest answer, in tokens",
  "setting.reasoning_effort": "Thinking effort",
  systemHint: "What the model is told before the conversation begins.",
  temperatureHint:
    "A number from 0 to {most}: a low one for code and facts, a high one for ideas. Empty: as the model does it.",
  maxTokensHint: "A whole number from 1 to {most}. Empty: as the model does it.",
  "effort.default": "As the model does it",
  "effort.low": "Low",
  "effort.high": "High",
  "effort.max": "Highest",
  effortHint: "How long the model may think before it answers.",
  effortUnused: "Counts only while Thinking is switched on.",
  useDefaults: "Use the defaults",
  thisBrowser: "This browser",
  language: "Language",
  languageOfBrowser: "As the browser",
  theme: "Colours",
  "theme.system": "As the system",
  "theme.light": "Light",
  "theme.dark": "Dark",

  // The keys
  shortcuts: "Keyboard shortcuts",
  bareHelp: "? alone opens this sheet",
  "keys.send": "Send the message",
  "keys.newLine": "Begin a new line",
  "keys.stop": "Stop the answer, or close what is open",
  "keys.help": "Show this sheet",
  "keys.newChat": "Begin a new chat",
  "keys.search": "Search chats",
  "keys.settings": "Open the settings",

  // The saved prompts
  prompts: "Saved prompts",
  noPrompts: "Texts that you use often can be saved here. They are kept in this browser only.",
  insertPrompt: "Put into the message box",
  editPrompt: "Edit the prompt",
  editPromptNamed: "Edit prompt: {title}",
  deletePromptNamed: "Delete prompt: {title}",
  promptDeleted: "Prompt deleted.",
  promptsNotKept: "The browser's storage is full or closed: the prompts are gone when the page is left.",
  newPrompt: "New prompt",
  promptTitle: "Title (optional)",
  promptText: "Text",
  savePrompt: "Save",

  // The files that go with a message
  attachFiles: "Attach files",
  attachFilesHint: "Attach text, PDFs or images; with the conversation up to {size}",
  attachedFiles: "Attached files",
  readingFile: "reading…",
  removeFile: "Remove file: {name}",
  dropFiles: "Drop the files here",
  fileTooLarge: "{name} is too large: with what is there already, {size} are left.",
  fileNoImages: "{name} was not attached: this model takes no images.",
  fileNoText: "{name} was not attached: only text, PDFs and images can be read.",
  fileScanned: "{name} has no text in it, only pictures of pages.",
  fileLocked: "{name} is protected by a password.",
  fileDamaged: "{name} could not be read: it may be damaged.",
  questionTooLarge:
    "With its files and all before it this question has {size}; the server takes {most}. Remove a file, or begin a new chat.",
  modelTakesNoImages: "This model takes no images. Choose another one, or remove them.",
};
