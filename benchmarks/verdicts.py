"""What must be true of each session of the storm, whatever was done to the workers.

The ledger of the simulated DeepSeek is what answers are held against. What may be excused is
excused by what was done, never by time alone: a connection may break if its own worker was killed,
an answer 503 may come if a worker was frozen or killed while it was asked for, or had not a moment
of rest because of other work on the machine.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from chatproxy.cluster.early_stops import EARLY_STOP_SECONDS
from chatproxy.config import Settings

from . import load
from .fates import STOPPED
from .fleet import Fleet
from .visits import Press, Reply, Visit

#: How often the ledger is asked whether a connection is closed that must be closed by now. The
#: simulation may answer a question before it has read what came shortly before on another
#: connection, but not three times; after that it has read all.
_LOOKS = 3
#: Seconds in which a connection must be closed where nobody has said yet that it is.
_SECONDS_TO_CLOSE = 10.0
#: Seconds by which an early Stop may be forgotten too late.
_SECONDS_TO_FORGET = 3.0


class Judge:
    """Holds what clients saw against what the simulation saw.

    :param tell: called with each thing that is wrong.
    """

    def __init__(self, fleet: Fleet, upstream: int, tell: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._tell = tell
        self.statuses: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        #: Of each confirmed Stop: when it was sent, ms to the close, ``stopMs``.
        self.stops: list[tuple[float, float, float]] = []
        #: What the server's log must say of each session: whether it must, or only may, have ended.
        self.ended: dict[str, bool] = {}
        self._not_found: list[float] = []
        self._unless_troubled: list[tuple[float, float, str]] = []

    def remembered(self) -> int:
        """How many Stops that found nothing the workers may remember, at the most."""
        since = time.monotonic() - EARLY_STOP_SECONDS - _SECONDS_TO_FORGET
        return sum(each > since for each in self._not_found)

    async def press(self, visit: Visit, press: Press) -> None:
        """Judge the answer to a Stop, as soon as it has come."""
        self.statuses[press.status] += 1
        if press.status == 0:
            self._expect(press.wire.lost, visit, "a Stop was not answered")
        elif press.status == 503:
            said = self._said(visit, f"a Stop was refused: {press.answer}")
            self._unless_troubled.append((press.sent, press.answered, said))
        elif press.status in (200, 404):
            entries = await self._closed(visit)
            press.settled = time.monotonic()
            if press.status == 200:
                self._receipt(visit, press, entries)
            else:
                self._not_found.append(press.answered)
                expected = {"success": False, "message": "Session not found"}
                self._expect(press.answer == expected, visit, f"a 404 says {press.answer}")
        else:
            self._wrong(visit, f"a Stop was answered with {press.status} {press.answer}")

    def _receipt(self, visit: Visit, press: Press, entries: list[dict[str, Any]]) -> None:
        answer = press.answer
        if not answer["upstreamClosed"]:
            said = self._said(visit, f"the close was not confirmed: {answer}")
            self._unless_troubled.append((press.sent, press.answered, said))
        self._expect(answer["sessionId"] == visit.fate.id, visit, f"another's receipt: {answer}")
        gone = entries[-1]["peer_gone_mono"] if entries else None
        if gone is not None:
            self.stops.append((press.sent, (gone - press.sent) * 1000, answer["stopMs"]))

    async def _closed(self, visit: Visit) -> list[dict[str, Any]]:
        """The ledger's entries of a session of which it was just said that it does not run."""
        for _ in range(_LOOKS):
            entries = await self._entries(visit)
        if not any(entry["open"] for entry in entries):
            return entries
        if visit.lost:  # nobody has said more than that its worker is gone
            return await self._closing(visit)
        self._wrong(visit, f"it was said to be over, and is open: {entries[-1]}")
        return entries

    async def visit(self, visit: Visit) -> None:
        """Judge a session that has ended for its client."""
        entries = await self._closing(visit)
        reply = Reply.of(visit.received)
        self._order(visit, entries)
        if visit.left and visit.fate.name != "drop":
            excused = any(map(_is_forgotten, visit.presses))
            self._expect(excused, visit, "the answer did not end")
        elif visit.fate.name == "drop":
            self._outcome(visit, reply, "left")
        elif not reply.whole:
            self._expect(visit.lost, visit, f"the answer broke off: {visit.received[-300:]!r}")
            self._outcome(visit, reply, "lost")
        else:
            self._whole(visit, reply, entries)
        visit.received = b""

    def _order(self, visit: Visit, entries: list[dict[str, Any]]) -> None:
        """One receipt at the most, and nothing begins after a Stop was answered."""
        receipts = [press for press in visit.presses if press.status == 200]
        self._expect(len(receipts) <= 1, visit, f"{len(receipts)} receipts")
        for press in visit.presses:
            if press.status == 200 or (press.status == 404 and not _is_forgotten(press)):
                late = [each for each in entries if each["received_mono"] > press.settled]
                self._expect(not late, visit, f"begun after {press.answer}: {late}")

    def _whole(self, visit: Visit, reply: Reply, entries: list[dict[str, Any]]) -> None:
        if reply.status == 503 and b'"peers_unavailable"' in reply.body:
            said = self._said(visit, f"the start was refused: {reply.body!r}")
            self._unless_troubled.append((visit.began, visit.answered, said))
            self._outcome(visit, reply, "refused")
        elif reply.status == 409:
            self._cancelled(visit, reply, entries)
        elif reply.stopped is not None:
            self._stopped(visit, reply)
        elif visit.fate.name == "fail":
            refused = reply.status in (502, 503)
            error = bool(reply.events) and reply.events[-1].get("event") == "error"
            self._expect(refused or error, visit, f"not told of a failure: {reply.body[-300:]!r}")
            self._outcome(visit, reply, "failed")
        elif visit.fate.name in ("complete", "slow", "stop_early"):
            self._complete(visit, reply, entries)
        else:
            # Tries do not go on for ever: the last one may have failed before a Stop was answered.
            tried = len(entries) == Settings.tries
            failed_at = entries[-1]["received_mono"] if tried else float("inf")
            answered = [press for press in visit.presses if press.status in (200, 404)]
            late = all(press.settled > failed_at for press in answered)
            excused = late and "status" in visit.fate.simulate
            self._expect(excused, visit, f"not stopped: {reply.status} {reply.body[-300:]!r}")
            self._outcome(visit, reply, "failed")

    def _complete(self, visit: Visit, reply: Reply, entries: list[dict[str, Any]]) -> None:
        """Each event is there, once and in order, up to the end."""
        # Besides the tokens: a chunk with the role, and one with the usage.
        expected = visit.fate.simulate["tokens"] + 2
        numbers = [each.get("id") for each in reply.events]
        whole = reply.done and len(reply.data) == expected
        whole = whole and numbers == [str(number) for number in range(1, expected + 2)]
        self._expect(whole, visit, f"not whole: {len(reply.data)} of {expected} events")
        self._expect(entries[-1]["finished"], visit, f"not finished: {entries[-1]}")
        if visit.fate.name == "stop_early":
            excused = any(map(_is_forgotten, visit.presses))
            self._expect(excused, visit, "it began although its Stop came first")
        self._outcome(visit, reply, "finished")

    def _stopped(self, visit: Visit, reply: Reply) -> None:
        """The receipt and the end of the stream say the same."""
        told = reply.stopped or {}
        receipts = [press.answer for press in visit.presses if press.status == 200]
        unheard = any(press.status in (0, 503) for press in visit.presses)
        self._expect(bool(receipts) or unheard, visit, f"stopped without a receipt: {told}")
        said = [told.get("events"), told.get("phase"), len(reply.data), told.get("reason")]
        for receipt in receipts:
            expected = [receipt["events"], receipt["phase"], receipt["events"], "user"]
            self._expect(said == expected, visit, f"receipt {receipt}, but {said}")
        self._expect(reply.done, visit, "no [DONE] after stopped")
        self._expect(visit.fate.name in STOPPED, visit, f"nobody stopped it: {told}")
        self._outcome(visit, reply, "stopped")

    def _cancelled(self, visit: Visit, reply: Reply, entries: list[dict[str, Any]]) -> None:
        self._expect(b'"session_cancelled"' in reply.body, visit, f"a 409 says {reply.body!r}")
        self._expect(entries == [], visit, f"cancelled, and yet begun: {entries}")
        early = any(press.status in (0, 404, 503) for press in visit.presses)
        self._expect(early, visit, "cancelled by nobody")
        self._outcome(visit, reply, "cancelled")

    async def _closing(self, visit: Visit) -> list[dict[str, Any]]:
        """The ledger's entries of a session, when none of them is open any more."""
        end = time.monotonic() + _SECONDS_TO_CLOSE
        while True:
            entries = await self._entries(visit)
            if not any(entry["open"] for entry in entries):
                return entries
            if time.monotonic() > end:
                self._wrong(visit, f"the connection to the upstream stays open: {entries[-1]}")
                return entries
            await asyncio.sleep(0.05)

    async def _entries(self, visit: Visit) -> list[dict[str, Any]]:
        ledger = await load.fetch(self._upstream, f"/ledger?tag={visit.fate.id}")
        found: list[dict[str, Any]] = ledger["requests"]
        return found

    def _outcome(self, visit: Visit, reply: Reply, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self.ended[visit.fate.id] = reply.status == 200 and outcome != "left" and not visit.lost

    def _expect(self, truth: Any, visit: Visit, otherwise: str) -> None:
        if not truth:
            self._wrong(visit, otherwise)

    def close(self) -> None:
        """Tell of what nothing excuses; when all troubles are known."""
        for begin, end, said in self._unless_troubled:
            if not self._fleet.troubled(begin, end):
                self._tell(said)

    def _wrong(self, visit: Visit, what: str) -> None:
        self._tell(self._said(visit, what))

    @staticmethod
    def _said(visit: Visit, what: str) -> str:
        presses = []
        for press in visit.presses:
            sent, answered = press.sent - visit.began, press.answered - visit.began
            presses.append(f"{press.status} at {sent:+.2f}..{answered:+.2f}")
        return f"{visit.fate.id}: {what[:600]}; Stops {presses}, lost {visit.lost}"


def _is_forgotten(press: Press) -> bool:
    """Whether a Stop that came before its start was remembered by a worker that was killed."""
    return press.status == 404 and press.wire.lost
