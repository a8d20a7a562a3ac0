"""How much room and how many requests a landing zone takes, by what zones of real sessions have. Knows no price.

The sizes were measured on zones made of a real test day (car_data, location, laps, stints; 1.8 million records) and a
simulated race of an hour (the others), both loaded through the API in each layout (docs/landing-zone.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from f1hbase.model.footprints import Footprint, Share
from f1hbase.stores.files.clients import PART_BYTES
from f1hbase.stores.files.layouts import Layout

_PACKED_BYTES = {"car_data": 7.8, "location": 7.1, "intervals": 12.9, "laps": 33.1, "stints": 12.6, "position": 8.6}
"""Of a record in an answer that is packed with gzip."""

_OTHER_PACKED_BYTES = 25.0

_JSON_BYTES = {"car_data": 167.5, "location": 129.1, "intervals": 141.2, "laps": 365.9, "stints": 145.7}
"""Of a record as JSON."""

_OTHER_JSON_BYTES = 200.0

_FILE_BYTES = 48.0
"""What a record has more in a file of the layout `extractor`: `session_name` and `batch_day`."""

_ANSWER_BYTES = 22.0
"""Of an answer without records."""

_MANIFEST_BYTES = 1_350.0
_FACTS_BYTES = 320.0
_LEASE_BYTES = 450.0

_LEASES_A_MEETING = 8
"""The numbers of a meeting's lease that are kept: taken, the worker named, renewed twice a minute, given back."""

_OBJECTS_A_RUN, _PUTS_A_RUN = 2, 3
"""The marker of the zone and the row of the run, which is written when it begins and when it ends."""


def footprint(layout: Layout, name: str, shares: Iterable[Share]) -> Footprint:
    """Return what it takes to keep what is expected.

    Args:
        layout: How answers are kept.
        name: The zone, for people.
        shares: What is expected.
    """
    size, objects, puts, meetings = 0.0, _OBJECTS_A_RUN, _PUTS_A_RUN, set()
    for share in shares:
        as_json = _JSON_BYTES.get(share.endpoint, _OTHER_JSON_BYTES)
        packed = _PACKED_BYTES.get(share.endpoint, _OTHER_PACKED_BYTES)
        size += share.answers * _ANSWER_BYTES + share.records * (packed if layout.packs else as_json)
        size += share.units * _MANIFEST_BYTES
        objects += share.answers + share.units
        puts += share.answers + share.units
        if layout.makes_files:
            content = share.records * (as_json + _FILE_BYTES)
            size += content + share.scopes * _FACTS_BYTES
            objects += 2 * share.scopes
            puts += 2 * share.scopes + math.ceil(content / PART_BYTES)
        meetings.add(share.meeting)
    if not meetings:
        return Footprint(name, 0, 0, 0)
    leases = len(meetings) * _LEASES_A_MEETING
    return Footprint(name, round(size + leases * _LEASE_BYTES), objects + leases, puts + leases)
