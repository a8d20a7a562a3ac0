"""What turns the messages of topics into the records of an endpoint, the same for history, recordings and live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext


class Normaliser(Protocol):
    """Makes the records of one endpoint and session; its state is all that it keeps of the messages so far.

    A record that is given again with the same identity replaces the earlier one.

    Attributes:
        endpoint: The endpoint.
        topics: The topics whose messages it takes, in order of time and, within a moment, of topic.
        fields: The fields that a record has where the service has a value; others are absent.
        dated: Whether its records carry the times of messages, and not only times that the messages say themselves.
    """

    endpoint: ClassVar[str]
    topics: ClassVar[frozenset[str]]
    fields: ClassVar[frozenset[str]]
    dated: ClassVar[bool]

    def __init__(self, session: SessionContext) -> None: ...

    def take(self, message: Message) -> Iterable[Record]:
        """Return the records that a message makes or changes.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: If the message is not as the service sends it; the state
                then holds what could be read of it.
        """

    def end(self) -> Sequence[Record]:
        """Return the records that only the end of the session makes."""


MISSHAPEN = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)
"""What `take` may raise for a message that is not as the service sends it."""
