"""Who drives where: invented drivers, teams and circuits, in the shape of OpenF1's records."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# One with a `#`, which separates the parts of a row key, and some with letters beyond ASCII.
TEAMS = (
    ("Falcon Racing", "3671C6"),
    ("Scuderia São Jorge", "E8002D"),
    ("Silver Arrow Works", "27F4D2"),
    ("Papaya Grand Prix", "FF8000"),
    ("Écurie Étoile", "0093CC"),
    ("Green Dragon", "229971"),
    ("Nordstjärnan F1", "64C4FF"),
    ("Rising Bull", "6692FF"),
    ("Kick & Sons #52", "52E252"),
    ("Blue Ridge Motorsport", "B6BABD"),
)

# Numbers 1, 10 and 11 are there because row keys of driver 1 must not be taken for those of driver 10.
_DRIVERS = (
    (1, "Max", "Vandermeer", "NED"),
    (11, "Chema", "Peñalver", "MEX"),
    (16, "Carlo", "Leclair", "MON"),
    (55, "Íñigo", "Zabala", "ESP"),
    (44, "Louis", "Hambleton", "GBR"),
    (63, "Rory", "Gough", "GBR"),
    (4, "Landon", "Norcross", "GBR"),
    (81, "Oskar", "Pias", "AUS"),
    (10, "Étienne", "Gaudin", "FRA"),
    (31, "Aurèle", "Ombredane", "FRA"),
    (14, "Ferrán", "Alós", "ESP"),
    (18, "Lorne", "Stroud", "CAN"),
    (77, "Väinö", "Bäckström", "FIN"),
    (24, "Zhāng", "Wěi", "CHN"),
    (22, "Yūki", "Tsuchida", "JPN"),
    (21, "Nils", "Ångström", "SWE"),
    (20, "Kaj", "Møller", "DEN"),
    (27, "Nikolas", "Hülsmann", "GER"),
    (23, "Alec", "Albarn", "THA"),
    (2, "Lucas", "Sargeson", "USA"),
)
MOST_DRIVERS = len(_DRIVERS)


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver of the season. ``skill`` 0 is the fastest car."""

    number: int
    first_name: str
    last_name: str
    country_code: str
    team: str
    colour: str
    skill: int

    @property
    def acronym(self) -> str:
        """Return the three letters of the timing screen."""
        return _plain(self.last_name)[:3].upper()

    def record(self, meeting_key: int, session_key: int) -> dict[str, object]:
        """Return the record of the endpoint ``drivers``; some have no portrait, as in the real ones."""
        code = (_plain(self.first_name)[:3] + _plain(self.last_name)[:3]).upper() + "01"
        portrait = f"https://media.example.com/drivers/{code}.png"
        return {
            "broadcast_name": f"{self.first_name[0]} {self.last_name.upper()}",
            "country_code": self.country_code,
            "driver_number": self.number,
            "first_name": self.first_name,
            "full_name": f"{self.first_name} {self.last_name.upper()}",
            "headshot_url": None if self.number % 10 == 7 else portrait,
            "last_name": self.last_name,
            "meeting_key": meeting_key,
            "name_acronym": self.acronym,
            "session_key": session_key,
            "team_colour": self.colour,
            "team_name": self.team,
        }


@dataclass(frozen=True, slots=True)
class Circuit:
    """Where a meeting takes place. ``offset`` is its hours from UTC."""

    key: int
    name: str
    location: str
    country: str
    country_code: str
    country_key: int
    grand_prix: str
    offset: float
    street: bool = False

    @property
    def gmt_offset(self) -> str:
        """Return the offset as OpenF1 writes it: ``05:30:00``, ``-06:00:00``."""
        minutes = round(abs(self.offset) * 60)
        return f"{'-' if self.offset < 0 else ''}{minutes // 60:02}:{minutes % 60:02}:00"


CIRCUITS = (
    Circuit(901, "Al Qasr", "Al Qasr", "Bahrain", "BRN", 36, "Gulf", 3),
    Circuit(902, "Yarra Bend", "Melbourne", "Australia", "AUS", 5, "Southern", 10, street=True),
    Circuit(903, "Mizu-no-Mori", "Nagoya", "Japan", "JPN", 4, "Kansai", 9),
    Circuit(904, "São Bento", "São Paulo", "Brazil", "BRA", 10, "Grande Prêmio de São Bento", -3),
    Circuit(905, "Côte d'Opale", "Boulogne", "France", "FRA", 11, "Opale", 2),
    Circuit(906, "Deccan Ring", "Hyderabad", "India", "IND", 12, "Deccan", 5.5),
    Circuit(907, "Heathmoor", "Heathmoor", "Great Britain", "GBR", 2, "Albion", 1),
    Circuit(908, "Lago Alto", "Como", "Italy", "ITA", 13, "Lombard", 2),
    Circuit(909, "Prairie Loop", "Austin", "United States", "USA", 19, "Prairie", -5),
    Circuit(910, "Valle de Plata", "Ciudad de México", "Mexico", "MEX", 8, "Plata", -6),
    Circuit(911, "Harbour Lights", "Marina Bay", "Singapore", "SGP", 157, "Harbour", 8, street=True),
    Circuit(912, "Corniche", "Jeddah", "Saudi Arabia", "KSA", 153, "Corniche", 3, street=True),
)


SAFETY_CAR = Driver(241, "Safety", "Car", "GER", *TEAMS[0], skill=0)
"""A car that has a location and nothing else; real records have such numbers too."""


def make_drivers(count: int) -> list[Driver]:
    """Return the first ``count`` drivers, two a team."""
    return [
        Driver(number, first, last, country, *TEAMS[index // 2], skill=index)
        for index, (number, first, last, country) in enumerate(_DRIVERS[:count])
    ]


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("Ø", "O"))
    return "".join(one for one in letters if one.isascii() and one.isalpha())
