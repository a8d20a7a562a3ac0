"""Colours that are read on a dark ground and on a light one: arithmetic of WCAG 2.2, knows no chart."""

from __future__ import annotations

import colorsys
import re

LIGHT_GROUND, DARK_GROUND = "#ffffff", "#14161a"

LEAST_CONTRAST = 3.0
"""What WCAG 2.2 asks of graphics (success criterion 1.4.11)."""

WITHOUT_TEAM = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988", "#997700", "#8877cc",
)  # fmt: skip
"""For drivers whose team's colour is unknown: Paul Tol's bright scheme, which colour-blind people tell apart, and four
more."""

COMPOUNDS = {
    "SOFT": "#e10600",
    "MEDIUM": "#e6b400",
    "HARD": "#b9bdc4",
    "INTERMEDIATE": "#37a744",
    "WET": "#1e6fd9",
    "TEST_UNKNOWN": "#7d6bb0",
    "UNKNOWN": "#8a8a8a",
}
"""Pirelli's colours of the compounds, the yellow and the white darkened until they are seen on white as well."""

_HEX = re.compile(r"#?([0-9A-Fa-f]{6})")


def hex_colour(text: str | None) -> str | None:
    """Return a colour as `#rrggbb`, which OpenF1 gives as `3671C6`; None if it is none.

    >>> hex_colour("3671C6"), hex_colour("blue"), hex_colour(None)
    ('#3671c6', None, None)
    """
    found = _HEX.fullmatch(text or "")
    return f"#{found[1].lower()}" if found else None


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21.

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def readable(colour: str, ground: str, least: float = LEAST_CONTRAST) -> str:
    """Return a colour of the same hue whose contrast with the ground suffices, as near to it as may be.

    >>> readable("#3671c6", "#ffffff")
    '#3671c6'
    >>> contrast(readable("#b6babd", "#ffffff"), "#ffffff") >= 3
    True
    """
    red, green, blue = _parts(colour)
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    step = -0.01 if _luminance(ground) > 0.5 else 0.01
    while contrast(colour, ground) < least and 0.0 <= lightness + step <= 1.0:
        lightness += step
        parts = colorsys.hls_to_rgb(hue, lightness, saturation)
        colour = "#" + "".join(f"{round(part * 255):02x}" for part in parts)
    return colour


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _parts(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
