"""One driver's place in a classification, as OpenF1 and as Jolpica spell it, and how two of them differ.

Knows no store and no network.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from f1hbase.model.samples import Record
from f1hbase.operations.verify.differences import Kind

_FINISHED = re.compile(r"Finished|Lapped|\+\d+ Laps?", re.ASCII)
_NOT_STARTED = frozenset({"Did not start", "Did not qualify", "Did not prequalify", "Withdrew", "Withdrawn"})


class Outcome(StrEnum):
    """How a driver's session ended."""

    CLASSIFIED = "classified"
    RETIRED = "retired (DNF)"
    NOT_CLASSIFIED = "not classified"
    NOT_STARTED = "did not start (DNS)"
    DISQUALIFIED = "disqualified (DSQ)"


_OF_TEXT: Mapping[object, frozenset[Outcome]] = {
    "R": frozenset({Outcome.RETIRED}),
    "N": frozenset({Outcome.NOT_CLASSIFIED, Outcome.RETIRED}),
    "W": frozenset({Outcome.NOT_STARTED}),
    "F": frozenset({Outcome.NOT_STARTED}),
    "D": frozenset({Outcome.DISQUALIFIED}),
    "E": frozenset({Outcome.DISQUALIFIED}),
}
"""What Jolpica's `position_text` means where it is no number (docs/jolpica.md)."""


@dataclass(frozen=True, slots=True)
class Classified:
    """One driver's place.

    Attributes:
        number: The number of the car; None where it is not known.
        code: The three letters of the timing screen; empty where they are not known.
        name: What to call the driver where there is no code.
        position: The place of who is classified; None for all others.
        points: The points of this race alone; None where they are not known.
        laps: How many laps were completed; None where that is not known.
        outcomes: How it ended, all that the source's words allow; empty where it does not say.
    """

    number: int | None
    code: str = ""
    name: str = ""
    position: int | None = None
    points: float | None = None
    laps: int | None = None
    outcomes: frozenset[Outcome] = frozenset()

    @property
    def label(self) -> str:
        """What to call the driver beside the number."""
        return self.code or self.name

    @property
    def ended(self) -> str:
        """How it ended, for people."""
        if self.position is not None and Outcome.DISQUALIFIED not in self.outcomes:
            return f"position {self.position}"
        return " or ".join(sorted(self.outcomes)) or "no position"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing in which two classifications differ.

    Attributes:
        kind: Which kind of thing.
        number: The number of the car, where it is known.
        detail: The same for people, to follow the number.
    """

    kind: Kind
    number: int | None
    detail: str


def of_session(
    results: Iterable[Record], drivers: Iterable[Record] = (), standings: Sequence[Record] = ()
) -> list[Classified]:
    """Return the classification that `session_result` has.

    Args:
        results: The records of `session_result` of one session.
        drivers: Those of `drivers`, for their codes.
        standings: Those of `championship_drivers`; they say what points the race gave where the results do not.
    """
    codes = {record.get("driver_number"): record.get("name_acronym") for record in drivers}
    gained = _gained(standings)
    found = []
    for record in results:
        number = _whole(record.get("driver_number"))
        position, points = _whole(record.get("position")), _number(record.get("points"))
        found.append(
            Classified(
                number,
                _text(codes.get(number)),
                position=position,
                points=gained.get(number) if points is None else points,
                laps=_whole(record.get("number_of_laps")),
                outcomes=_flagged(record, position),
            )
        )
    return found


def of_history(records: Iterable[Record]) -> list[Classified]:
    """Return the classification that records of `results`, `sprint_results` or `qualifying_results` have."""
    found = []
    for record in records:
        text, position, laps = record.get("position_text"), _whole(record.get("position")), _whole(record.get("laps"))
        # Of qualifying there is no text: who has a place may not have driven at all.
        outcomes = frozenset[Outcome]() if text is None else frozenset({Outcome.CLASSIFIED})
        status = _text(record.get("status"))
        if text in _OF_TEXT:
            position, outcomes = None, _OF_TEXT[text]
            if status in _NOT_STARTED:
                outcomes = frozenset({Outcome.NOT_STARTED})
            elif Outcome.RETIRED in outcomes and laps == 0:
                # Who stopped on the way to the grid is a retirement to one, and did not start to the other.
                outcomes |= {Outcome.NOT_STARTED}
        elif status and not _FINISHED.fullmatch(status):
            outcomes |= {Outcome.RETIRED}  # classified all the same, for nine tenths of the distance
        found.append(
            Classified(
                _whole(record.get("number")),
                _text(record.get("driver_code")),
                _text(record.get("driver_family_name")) or _text(record.get("driver_id")),
                position,
                _number(record.get("points")),
                laps,
                outcomes,
            )
        )
    return found


def deviations(here: Sequence[Classified], there: Sequence[Classified], other: str) -> Iterator[Deviation]:
    """Yield what differs between two classifications, in the order of the other one.

    Drivers are known by the number of the car, else by their code. What only one of the two says of anybody (points,
    laps, how it ended) is no difference; `unsaid` names it.

    Args:
        here: What is stored.
        there: What the other place has.
        other: What that is called.
    """
    pairs, lonely, unclear = _paired(here, there)
    yield from (
        Deviation(Kind.NOT_COMPARED, one.number, f"{one.label}: {why} at {other}, which no code tells apart".strip())
        for one, why in unclear
    )
    for one in lonely:
        yield Deviation(Kind.MISSING_DRIVER, one.number, _of(one, f"is not here; {other} has {one.ended}"))
    met = {id(mine) for mine, _ in pairs}
    says = _says(here)
    demoted = [
        (mine, theirs)
        for mine, theirs in pairs
        if Outcome.DISQUALIFIED in theirs.outcomes and mine.position is not None and not _agree(mine, theirs)
    ]
    for mine, theirs in pairs:
        yield from _of_pair(mine, theirs, other, says, demoted)
    if not unclear:
        for mine in here:
            if id(mine) not in met:
                text = f"has {mine.ended} here; {other} does not have this driver"
                yield Deviation(Kind.FURTHER_DRIVER, mine.number, _of(mine, text))


def unsaid(here: Sequence[Classified]) -> list[str]:
    """Return what a classification says of nobody, so that it cannot be compared: of `points`, `laps`, `outcomes`."""
    says = _says(here)
    return [name for name in ("points", "laps", "outcomes") if name not in says]


def _of_pair(
    mine: Classified, theirs: Classified, other: str, says: frozenset[str], demoted: Sequence[tuple[Classified, ...]]
) -> Iterator[Deviation]:
    def deviation(kind: Kind, text: str) -> Deviation:
        label = mine.label or theirs.label
        return Deviation(kind, mine.number, f"{label}: {text}" if label else text)

    if mine.number != theirs.number and theirs.number is not None:
        yield deviation(Kind.OTHER_NUMBER, f"number {mine.number} here, {theirs.number} at {other}")
    elif mine.code and theirs.code and mine.code != theirs.code:
        yield deviation(Kind.OTHER_NUMBER, f"the number is {mine.code}'s here, {theirs.code}'s at {other}")
    if not _agree(mine, theirs):
        late = "; a decision that OpenF1 does not have" if Outcome.DISQUALIFIED in theirs.outcomes else ""
        yield deviation(Kind.OTHER_OUTCOME, f"{mine.ended} here, {theirs.ended} at {other}{late}")
    consequence = _consequence(mine, theirs, demoted)
    # Who does not say how it ended (F1's timing screen) has a place for the retired, too.
    known_place = mine.outcomes or not theirs.outcomes or Outcome.CLASSIFIED in theirs.outcomes
    if _agree(mine, theirs) and known_place and mine.position != theirs.position:
        yield deviation(Kind.OTHER_POSITION, f"{mine.ended} here, {theirs.ended} at {other}{consequence}")
    # Who is left out of a list of points or laps has none.
    if "points" in says and theirs.points is not None and (mine.points or 0.0) != theirs.points:
        yield deviation(
            Kind.OTHER_POINTS, f"{_shown(mine.points)} points here, {_shown(theirs.points)} at {other}{consequence}"
        )
    if "laps" in says and theirs.laps is not None and (mine.laps or 0) != theirs.laps:
        yield deviation(Kind.OTHER_LAPS, f"{_shown(mine.laps)} laps here, {theirs.laps} at {other}")


def _consequence(mine: Classified, theirs: Classified, demoted: Sequence[tuple[Classified, ...]]) -> str:
    """Return that a place follows from disqualifications that are not here, where it does."""
    if mine.position is None or theirs.position is None:
        return ""
    before = [one for one, _ in demoted if one.position is not None and one.position < mine.position]
    if not before or mine.position - theirs.position != len(before):
        return ""
    whom = ", ".join(str(one.number) for one in before)
    return f" (as driver{'s' if len(before) > 1 else ''} {whom} {'are' if len(before) > 1 else 'is'} disqualified)"


def _paired(
    here: Sequence[Classified], there: Sequence[Classified]
) -> tuple[list[tuple[Classified, Classified]], list[Classified], list[tuple[Classified, str]]]:
    """Return who is in both, who is in the other alone, and who cannot be told apart, with the reason."""
    shared = {number for number, times in Counter(one.number for one in there).items() if times > 1}
    by_number = {one.number: one for one in here if one.number is not None}
    by_code = {one.code: one for one in here if one.code}
    pairs: list[tuple[Classified, Classified]] = []
    rest: list[Classified] = []
    taken: set[int] = set()
    for one in there:
        mine = None if one.number is None or one.number in shared else by_number.get(one.number)
        if mine is None:
            rest.append(one)
        else:
            pairs.append((mine, one))
            taken.add(id(mine))
    lonely: list[Classified] = []
    unclear: list[tuple[Classified, str]] = []
    for one in rest:
        mine = by_code.get(one.code) if one.code else None
        if mine is not None and id(mine) not in taken:
            pairs.append((mine, one))
            taken.add(id(mine))
        elif one.number is None:
            unclear.append((one, "has no number"))
        elif one.number in shared:
            unclear.append((one, f"shares number {one.number}"))
        else:
            lonely.append(one)
    order = {id(one): place for place, one in enumerate(there)}
    return sorted(pairs, key=lambda pair: order[id(pair[1])]), lonely, unclear


def _agree(mine: Classified, theirs: Classified) -> bool:
    return not mine.outcomes or not theirs.outcomes or bool(mine.outcomes & theirs.outcomes)


def _says(here: Iterable[Classified]) -> frozenset[str]:
    return frozenset(
        name
        for one in here
        for name, value in (("points", one.points), ("laps", one.laps), ("outcomes", one.outcomes or None))
        if value is not None
    )


def _flagged(record: Record, position: int | None) -> frozenset[Outcome]:
    """Return how it ended, by the flags of OpenF1; nothing where there are none."""
    flags = {name: record.get(name) for name in ("dnf", "dns", "dsq")}
    if not any(isinstance(flag, bool) for flag in flags.values()):
        return frozenset()
    if flags["dsq"] is True:
        return frozenset({Outcome.DISQUALIFIED})
    if flags["dns"] is True:
        return frozenset({Outcome.NOT_STARTED})
    if flags["dnf"] is True:
        return frozenset({Outcome.RETIRED, *([Outcome.CLASSIFIED] if position is not None else [])})
    return frozenset({Outcome.NOT_CLASSIFIED if position is None else Outcome.CLASSIFIED})


def _gained(standings: Sequence[Record]) -> dict[int | None, float]:
    """Return the points that a race gave, by driver: those after it less those before it."""
    # Before the first race of a season nobody has any.
    first = all(record.get("points_start") is None for record in standings)
    gained: dict[int | None, float] = {}
    for record in standings:
        after, before = _number(record.get("points_current")), _number(record.get("points_start"))
        if after is not None and (first or before is not None):
            gained[_whole(record.get("driver_number"))] = after - (before or 0.0)
    return gained


def _of(one: Classified, text: str) -> str:
    return f"{one.label} {text}".strip()


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shown(value: float | None) -> str:
    return "no" if value is None else f"{value:g}"
