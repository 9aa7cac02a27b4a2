"""Conversations: the chats of an application's owners, kept so that another device has them.

A conversation is one JSON text, which nothing here looks into, with what a list of chats shows of
it. Its ``revision`` is a number that its owner's writes get in their order: whoever has seen all up
to one asks for those after it, and is told of what was deleted, too. Rules:

* An owner's writes come one after the other: each begins with the owner's row in ``totals``, which
  a transaction locks. So no revision comes to light after a later one, and the bounds are exact.
* A write names the revision that it was read at; if there is a later one, it is refused. So nobody
  overwrites what they have not seen.
* What is deleted leaves its id and a revision. It can be written again by whoever has seen that.
* Revisions are no less than the time in milliseconds. So they go on growing after an owner was
  erased, and after a backup was put back.
* No other owner's conversation can be reached, nor another application's.
* No error says anything of what is in a conversation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import (
    ConversationChanged,
    ConversationDeleted,
    ConversationNotFound,
    ConversationsFull,
    DatabaseUnavailable,
    Refusal,
    TooManySessions,
)
from .asking import Asking
from .database import Database, DatabaseError
from .schema import conversation_totals as totals
from .schema import conversations

#: How many conversations a list has at most.
PAGE = 100
#: How many deletions of an owner's are remembered; the oldest are forgotten.
DELETIONS = 10_000

#: How many requests wait for the database at once, and how many of one owner's.
AT_ONCE, AT_ONCE_OF_ONE = 100, 8
#: Milliseconds that PostgreSQL has for a statement: it holds up all others. In SQLite none lasts.
STATEMENT_MS = 5000

_T = TypeVar("_T")

_HEAD = (
    conversations.c.id,
    conversations.c.revision,
    conversations.c.title,
    conversations.c.pinned,
    conversations.c.updated_at,
    conversations.c.size,
    conversations.c.content.is_(None),
)


@dataclass(frozen=True)
class Head:
    """What a list shows of a conversation; see the table for the units."""

    id: str
    revision: int
    title: str
    pinned: bool
    updated_at: int
    size: int
    is_deleted: bool


@dataclass(frozen=True)
class Conversation:
    """A conversation: its head, and its content, which is a JSON text."""

    head: Head
    content: bytes


@dataclass(frozen=True)
class Draft:
    """A conversation as a client writes it; see ``Head``."""

    id: str
    title: str
    pinned: bool
    updated_at: int
    content: bytes


@dataclass(frozen=True)
class Bounds:
    """How many conversations an owner may have, and how many bytes of them."""

    number: int
    size: int


class _FirstAtOnce(Exception):
    """Another worker has made the owner's row meanwhile."""


class Conversations:
    """The conversations of one application. Safe to use from any thread.

    :param database: is used by what ``run`` runs alone.
    :param run: has the database asked, in a thread that may wait, and waits for what comes of it.
    :param application: the scope.
    """

    def __init__(
        self,
        database: Database,
        run: Callable[[Callable[[], Any]], Any],
        application: str,
        bounds: Bounds,
    ) -> None:
        self._asking = Asking(database, run, "The conversations", AT_ONCE, AT_ONCE_OF_ONE)
        self._application = application
        self._bounds = bounds

    def heads(self, owner: str, after: int) -> tuple[list[Head], bool]:
        """What an owner has written and deleted after a revision, in that order.

        :returns: at most ``PAGE`` of them, and whether there are more.
        :raises DatabaseUnavailable: as all of these methods do.
        """
        found = self._ask(owner, partial(self._heads, owner, after))
        return found[:PAGE], len(found) > PAGE

    def get(self, owner: str, id: str) -> Conversation:
        """One conversation.

        :raises ConversationNotFound, ConversationDeleted: if there is none.
        """
        return self._ask(owner, partial(self._get, owner, id))

    def put(self, owner: str, draft: Draft, seen: int) -> int:
        """Write a conversation.

        :param seen: the revision that it was read at; 0 if there was none.
        :returns: the revision that it has now.
        :raises ConversationChanged: if it has another one than was seen.
        :raises ConversationsFull: if it would be too much.
        """
        return self._write(owner, partial(self._written, owner, draft.id, seen, draft))

    def delete(self, owner: str, id: str, seen: int) -> int:
        """Delete a conversation, if it is as it was seen.

        :returns: the revision at which it was deleted, by this or before.
        :raises ConversationNotFound: if there was none.
        :raises ConversationChanged: if it has another revision than was seen.
        """
        return self._write(owner, partial(self._written, owner, id, seen, None))

    def export(self, owner: str) -> Iterator[Conversation]:
        """All conversations of an owner, one after the other, but for those deleted meanwhile."""
        ids = self._ask(owner, partial(self._ids, owner))
        found = map(partial(self._get_if_there, owner), ids)
        return (conversation for conversation in found if conversation is not None)

    def erase(self, owner: str) -> int:
        """Delete all that is known of an owner, also of what they deleted.

        :returns: how many conversations there were.
        """
        return self._write(owner, partial(self._erase, owner), may_last=True)

    def _get_if_there(self, owner: str, id: str) -> Conversation | None:
        try:
            return self.get(owner, id)
        except (ConversationNotFound, ConversationDeleted):
            return None

    def _write(
        self, owner: str, write: Callable[[Connection], _T], *, may_last: bool = False
    ) -> _T:
        try:
            return self._ask(owner, write, writes=True, may_last=may_last)
        except _FirstAtOnce:
            return self._ask(owner, write, writes=True, may_last=may_last)

    def _ask(
        self,
        owner: str,
        call: Callable[[Connection], _T],
        *,
        writes: bool = False,
        may_last: bool = False,
    ) -> _T:
        def use(database: Database) -> _T:
            with (database.writing if writes else database.reading)() as connection:
                if database.dialect == "postgresql" and not may_last:
                    bound = func.set_config("statement_timeout", str(STATEMENT_MS), True)
                    connection.execute(select(bound))
                return call(connection)

        try:
            return self._asking.ask(owner, use)
        except TooManySessions:
            sentence = "Too many requests wait for the database; try again."
            raise Refusal(sentence, status=429, code="too_many_requests", retry_after=1) from None
        except DatabaseError as error:  # which says nothing of what was to be written
            raise _unavailable(str(error)) from None

    def _heads(self, owner: str, after: int, connection: Connection) -> list[Head]:
        wanted = (
            select(*_HEAD)
            .where(*self._of(owner), conversations.c.revision > after)
            .order_by(conversations.c.revision)
            .limit(PAGE + 1)
        )
        return [Head(*row) for row in connection.execute(wanted)]

    def _get(self, owner: str, id: str, connection: Connection) -> Conversation:
        wanted = select(*_HEAD, conversations.c.content).where(*self._of(owner, id))
        row = connection.execute(wanted).first()
        if row is None:
            raise ConversationNotFound("There is no such conversation.")
        *head, content = row
        found = Head(*head)
        if found.is_deleted:
            raise ConversationDeleted("This conversation was deleted.", found.revision)
        return Conversation(found, content)

    def _ids(self, owner: str, connection: Connection) -> list[str]:
        kept = conversations.c.content.is_not(None)
        wanted = select(conversations.c.id).where(*self._of(owner), kept)
        return list(connection.scalars(wanted.order_by(conversations.c.id)))

    def _erase(self, owner: str, connection: Connection) -> int:
        self._locked(owner, connection)
        number = len(self._ids(owner, connection))
        connection.execute(delete(conversations).where(*self._of(owner)))
        connection.execute(delete(totals).where(*self._total_of(owner)))
        return number

    def _written(
        self, owner: str, id: str, seen: int, draft: Draft | None, connection: Connection
    ) -> int:
        number, size, revision = self._locked(owner, connection)
        there = conversations.c.revision, conversations.c.size, conversations.c.content.is_(None)
        row = connection.execute(select(*there).where(*self._of(owner, id))).first()
        has, was, is_deleted = (0, 0, True) if row is None else row
        if draft is None and is_deleted:
            if row is None:
                raise ConversationNotFound("There is no such conversation.")
            return has
        if has != seen:
            sentence = "The conversation has another revision; read it, then write again."
            raise ConversationChanged(sentence, has)
        values = _values_of(draft)
        number += (draft is not None) - (not is_deleted)
        size += values["size"] - was
        if draft is not None:
            self._check(number, size, more=values["size"] > was)
        self._set(connection, totals, self._total_of(owner), number=number, size=size)
        if row is None:
            key = {"application": self._application, "owner": owner, "id": id}
            connection.execute(insert(conversations).values(**key, revision=revision, **values))
        else:
            mine = self._of(owner, id)
            self._set(connection, conversations, mine, revision=revision, **values)
        if draft is None:
            self._forget_oldest(owner, connection)
        return revision

    def _locked(self, owner: str, connection: Connection) -> tuple[int, int, int]:
        """How many conversations an owner has, their bytes, and a new revision.

        Nobody else writes for this owner until the end of the transaction.
        """
        now = time.time_ns() // 1_000_000
        following = totals.c.revision + 1
        locked = (
            update(totals)
            .where(*self._total_of(owner))
            .values(revision=case((following > now, following), else_=now))
            .returning(totals.c.number, totals.c.size, totals.c.revision)
        )
        row = connection.execute(locked).first()
        if row is not None:
            number, size, revision = row
            return number, size, revision
        key = {"application": self._application, "owner": owner}
        try:
            connection.execute(insert(totals).values(**key, revision=now, number=0, size=0))
        except IntegrityError:
            raise _FirstAtOnce from None
        return 0, 0, now

    def _check(self, number: int, size: int, *, more: bool) -> None:
        """See that this is not too much; less than there was never is."""
        bounds = self._bounds
        if number > bounds.number:
            raise ConversationsFull(f"No more than {bounds.number} conversations are kept.")
        if size > bounds.size and more:
            raise ConversationsFull(f"No more than {bounds.size} bytes of them are kept.")

    def _forget_oldest(self, owner: str, connection: Connection) -> None:
        deleted = *self._of(owner), conversations.c.content.is_(None)
        newest_first = conversations.c.revision.desc()
        beyond = select(conversations.c.revision).where(*deleted).order_by(newest_first)
        last = connection.scalar(beyond.offset(DELETIONS).limit(1))
        if last is not None:
            old = conversations.c.revision <= last
            connection.execute(delete(conversations).where(*deleted, old))

    @staticmethod
    def _set(
        connection: Connection, table: Table, where: tuple[ColumnElement[bool], ...], **values: Any
    ) -> None:
        connection.execute(update(table).where(*where).values(**values))

    def _of(self, owner: str, id: str | None = None) -> tuple[ColumnElement[bool], ...]:
        columns = conversations.c
        mine = columns.application == self._application, columns.owner == owner
        return mine if id is None else (*mine, columns.id == id)

    def _total_of(self, owner: str) -> tuple[ColumnElement[bool], ...]:
        return totals.c.application == self._application, totals.c.owner == owner


def _values_of(draft: Draft | None) -> dict[str, Any]:
    """The columns of a conversation; None: of one that was deleted."""
    if draft is None:
        return {"title": '""', "pinned": False, "updated_at": 0, "size": 0, "content": None}
    return {
        "title": draft.title,
        "pinned": draft.pinned,
        "updated_at": draft.updated_at,
        "size": len(draft.content),
        "content": draft.content,
    }


def _unavailable(reason: str) -> DatabaseUnavailable:
    sentence = "The conversations can't be reached at present; try again."
    refusal = DatabaseUnavailable(sentence, retry_after=5)
    refusal.reason = reason
    return refusal
