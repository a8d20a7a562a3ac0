"""Failures on purpose of the hub: what becomes of each message on its way to a connection; knows no socket.

>>> dice = Dice(FeedFaults({"duplicate": 0.5}, seed=7))
>>> [dice.throw(connection=1, number=number) for number in range(6)]
[None, 'duplicate', None, None, 'duplicate', 'duplicate']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

FEED_KINDS: Mapping[str, str] = {
    "drop": "the connection ends without a goodbye: what is sent meanwhile is only in the next snapshot",
    "cut": "the same in the middle of the message's frame",
    "reset": "the same, and what was on its way is lost (RST)",
    "duplicate": "the message comes twice",
    "reorder": "the message comes after the one that follows it",
    "late": "the message comes --late seconds of the session later",
    "garbage": "before the message comes a frame that is no JSON",
    "strange": "before the message come one of an unknown topic and one of an unknown shape",
}
"""What a message can meet on its way to a connection."""

HUB_KINDS: Mapping[str, str] = {
    "silent": "accepts the connection and never answers",
    "mute": "answers the handshake, and never the subscription",
    "close": "closes every connection at once",
    "garbage": "answers the handshake with no JSON",
    "refuse": "answers the negotiation with status 503",
    "denied": "answers the negotiation with status 401",
}
"""What a hub can do instead of its work."""

ENDINGS = frozenset({"drop", "cut", "reset"})
"""The kinds that end a connection."""


@dataclass(frozen=True, slots=True)
class FeedFaults:
    """What is to go wrong on the way to each connection.

    Attributes:
        shares: Of the messages, how many meet each kind: 0 to 1, together at most 1.
        seed: The same seed deals the same faults to the same messages of the connection of the same number.
        late: How much later a late message comes, in seconds of the session.
        gap: For how many seconds of the session nobody can subscribe after a connection was ended.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    seed: int = 1
    late: float = 5.0
    gap: float = 0.0

    def __post_init__(self) -> None:
        for kind, share in self.shares.items():
            if kind not in FEED_KINDS:
                raise ValueError(f"{kind!r} is not one of {', '.join(FEED_KINDS)}")
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"the share of {kind!r} is {share:g}, and must be from 0 to 1")
        if sum(self.shares.values()) > 1.0:
            raise ValueError("the shares of the faults are more than 1 together")


class Dice:
    """Deals the faults: by the seed, the connection and the message, however fast they are played."""

    def __init__(self, faults: FeedFaults) -> None:
        self._shares = sorted(faults.shares.items())
        self._seed = faults.seed

    def throw(self, connection: int, number: int) -> str | None:
        """Return what a message meets on its way to a connection; None for nothing."""
        if not self._shares:
            return None
        digest = blake2b(f"{self._seed} {connection} {number}".encode(), digest_size=8).digest()
        rest = int.from_bytes(digest, "big") / 2**64
        for kind, share in self._shares:
            if rest < share:
                return kind
            rest -= share
        return None
