"""What a load is expected to bring, and what keeping it takes in a store of objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """What a load is expected to bring of one endpoint and meeting.

    Attributes:
        endpoint: The endpoint.
        meeting: The key of the meeting.
        units: How many units, as they are remembered: of samples one for each answer.
        answers: How many answers they come in.
        scopes: Of how many sessions they are.
        records: How many records they have, about.
    """

    endpoint: str
    meeting: int
    units: int
    answers: int
    scopes: int
    records: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What keeping something takes.

    Attributes:
        place: Where, for people.
        bytes: How many bytes.
        objects: How many objects.
        puts: How many requests that write; those that list and read are not counted.
    """

    place: str
    bytes: int
    objects: int
    puts: int
