"""The AI SDK's clients in a process of Node: chats as ``useChat`` has them, and its providers."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .driven import DrivenProcess
from .servers import ROOT, new_id
from .waiting import wait_for

#: ``make .venv/ai-sdk`` puts the packages there.
FOLDER = ROOT / "tests" / "clients" / "ai_sdk"
NODE = str(ROOT / ".venv" / "bin" / "node")
_PATIENCE = 30.0


def drive_ai_sdk(log_path: Path) -> DrivenProcess:
    """The process of ``drive.mjs``, which says what it does."""
    return DrivenProcess([NODE, "drive.mjs"], FOLDER, log_path)


class UseChat:
    """A chat, as a page has it.

    :param url: the server's.
    :param id: what the server knows it by; a second page of one chat has the same.
    :param more: for ``chatOf`` in ``drive.mjs``.
    """

    def __init__(self, ai_sdk: DrivenProcess, url: str, id: str | None = None, **more: Any) -> None:
        self.id = id or new_id()
        self._ai_sdk = ai_sdk
        self._fields = {"chat": new_id(), "id": self.id, "api": f"{url}/api/chat", **more}
        self._sent: list[Future[dict[str, Any]]] = []

    def send(self, files: Any = None, **simulate: Any) -> UseChat:
        """Send a message; return at once."""
        return self._begin("send", simulate, text="Hello", files=files)

    def regenerate(self, **simulate: Any) -> UseChat:
        """Have the last answer made anew."""
        return self._begin("regenerate", simulate)

    def resume(self) -> UseChat:
        """Read the live answer again."""
        return self._begin("resume", {})

    def stop(self) -> View:
        """Press the hook's own Stop."""
        return View(self._ai_sdk.begin(do="stop", **self._fields).result(_PATIENCE))

    def look(self) -> View:
        """What the page shows now."""
        return View(self._ai_sdk.begin(do="look", **self._fields).result(_PATIENCE))

    def look_for(self, name: str) -> View:
        """The same once there is something of this name."""
        return wait_for(lambda: (view := self.look()) and getattr(view, name) and view)

    def settled(self) -> View:
        """What the page shows when all that was sent is over."""
        return [View(each.result(_PATIENCE)) for each in self._sent][-1]

    def _begin(self, do: str, simulate: dict[str, Any], **fields: Any) -> UseChat:
        body = {"simulate": {"tag": self.id, **simulate}}
        self._sent.append(self._ai_sdk.begin(do=do, **self._fields, **fields, body=body))
        return self


class View:
    """What a page shows of a chat."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.status: str = said["status"]
        self.error: dict[str, Any] = said.get("error") or {}
        self.messages: list[dict[str, Any]] = said["messages"]
        self.ended: list[dict[str, Any]] = said["ended"]
        self.data: list[dict[str, Any]] = said["data"]

    @property
    def answer(self) -> dict[str, Any]:
        """The last message, if it is the assistant's."""
        last = self.messages[-1] if self.messages else {}
        return last if last.get("role") == "assistant" else {}

    @property
    def parts(self) -> list[dict[str, Any]]:
        return self.answer.get("parts", [])

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def reasoning(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "reasoning")

    @property
    def metadata(self) -> dict[str, Any]:
        return self.answer.get("metadata", {})


def is_there() -> bool:
    """Whether the packages have been installed."""
    return (FOLDER / "node_modules").is_dir()
