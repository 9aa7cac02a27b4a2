"""Reservation: what an answer may take of a number that all workers share, such as a budget.

It is drawn before the answer begins, and settled when the answer has ended: what was not used goes
back. So answers that run side by side can't take more than there is, whichever worker has them, and
one that is left before its end is charged all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from .session import StreamSession

#: What a shared number is found by.
AccountKey = tuple[str, ...]


class Draw(NamedTuple):
    """What was drawn from an account.

    :ivar amount: how much; 0 if nothing was.
    :ivar left: how much is left after that.
    :ivar epoch: tells the account from one of the same key that was lost, and begun anew, since.
    """

    amount: int
    left: int
    epoch: str = ""


class Accounts(Protocol):
    """Numbers that all workers of an application share. All amounts are whole, and not negative.

    May be called from any thread.
    """

    def draw(
        self,
        account: AccountKey,
        *,
        least: int,
        wanted: int,
        most: int,
        until: float,
        initial: int | None = None,
    ) -> Draw | None:
        """Draw ``wanted`` from an account; or what is left of ``most``, if ``least`` or more is.

        :param most: all that may be drawn from it, together with what was drawn before.
        :param until: when the account may be forgotten, in seconds since 1970.
        :param initial: what counts as drawn before if the account is not there yet.
        :returns: None if the account is not there and ``initial`` is None.
        :raises PeersUnavailable: if that can't be done now. It may have been done all the same.
        """

    def settle(self, account: AccountKey, draw: Draw, used: int) -> None:
        """Have ``used`` count in place of what was drawn; once for each draw.

        It may be more. If the account was lost since, it is added to the one that was begun anew,
        unless that began with it.
        What can't be settled now is settled later, or counts as it was drawn. Never raises.
        """


class Reservation(Protocol):
    """What one question has been granted.

    :ivar completion: the most tokens of its answer, of all choices together.
    """

    completion: int

    def refuse(self) -> None:
        """Note that the latest request was not sent, or was refused: it is not billed."""

    def may_send_again(self) -> bool:
        """Whether one more request may be sent for the question.

        The latest one may be billed, too, unless it was refused; then more is drawn for that, which
        may take a moment.
        """

    def end(self) -> None:
        """Note that the answer has ended, and is about to be settled, which may take a moment."""

    def settle(self, session: StreamSession) -> None:
        """Charge what the answer has come to (``StreamSession.account``); once. Never raises."""
