"""Numbers, sizes, times and text from outside, as people read them; knows no handler and no terminal.

Text that comes from an API, a file or a feed may hold anything: escape sequences that a terminal obeys, line ends that
forge a log line, 40,000 letters. `safe` makes it one harmless line. The log's formatter, what prints the lines of
commands, and the outcomes that become reports apply it to every text, so that nothing has to remember to.
"""

from __future__ import annotations

import re

_EXCERPT_CHARACTERS = 120

_UNSAFE = re.compile(
    # Control characters, line and paragraph separators, what turns the direction of text round, and what is not seen.
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)

LONGEST_TEXT = 2_000
"""How many characters of a text from outside are shown or logged at the most."""


def safe(text: str, longest: int = LONGEST_TEXT) -> str:
    r"""Return a text as one line without control characters, cut where it is too long.

    >>> safe("Grand\x1b[2J Prix\n[SUCCESS] all loaded")
    'Grand\\x1b[2J Prix\\n[SUCCESS] all loaded'
    """
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text):,} characters)"
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as one line of text, without the tags of a page."""
    text = re.sub(r"<[^>]*>", " ", body[:2000].decode(errors="replace"))
    return safe(" ".join(text.split())[:_EXCERPT_CHARACTERS]) or "(nothing)"


def count(number: int, noun: str) -> str:
    """Return a number of things: `1 meeting`, `2 meetings`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a length of time for people: `45 s`, `12 min`, `5 h 03 min`."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(number: float) -> str:
    """Return a number of bytes for people: `633 KB`, `1.2 GB`."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if number >= factor:
            value = number / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{number:.0f} B"
