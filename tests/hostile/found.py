"""The seeds that once found something; `python -m tests.hostile --found` runs them all."""

from __future__ import annotations

FOUND = {
    143: "a zero-width space in a field's name reached terminal and log",
    1008: "a pipe in a landing zone was waited for for ever",
    1061: "a pipe as log file was waited for for ever",
    2013: "a number of 5,000 digits among the settings was a stack trace",
    2023: "a key of 20,000 parts among the settings took 1.6 GB",
    2048: "a bomb took 1.8 GB, and more than a minute of ever smaller requests",
    2090: "bombs of endpoints that are cut by driver",
    2126: "a bomb of one endpoint that is cut by driver",
    2182: "a bomb, and a body without end beside it",
    2215: "a body without end, and garbage beside it",
    2310: "bodies without end of car_data",
    2364: "a body without end while another server hangs",
    2377: "a URL with a password as a number of retries was quoted",
    2381: "a bomb and bodies without end of three endpoints at once",
    3115: "a gateway whose table has a name that is no text was a stack trace of doctor",
    3141: "status after a load from Jolpica that failed in part asked OpenF1 how many requests that takes",
    3400: "a request to serve whose own address has no port that can be one was a stack trace in its log",
    5072: "an export from a gateway that lies met a unit without its time, and a scanner that could not be closed",
    6071: "a gateway that lies gave reports of another table's family, which was a stack trace of status",
    6100: "each line of CarData a thousand times took 411 MB, as equal records of one identity were all held",
    6106: "a gateway that lies gave a row without cells, which was a stack trace of status",
    6144: "a gateway that lies gave a row without cells, which was a stack trace of doctor",
    6679: "three endpoints that hang were each asked for in ever smaller parts, for more than a minute",
    6716: "a file of the archive that broke HTTP's rules after its beginning was waited for for ever, now and then",
    6787: "a link in the place of the next lease made rollback try for ever",
    7153: "as 6716, of TimingData",
    7550: "half a character in the place of a session, of which the layout 'extractor' makes a name, ended the worker",
    7708: "a million empty texts where records were expected took 431 MB",
    8229: "as 7708, of texts of a letter",
}
"""What each of them found."""

SLOW = frozenset({2090, 2126, 2182, 2215, 2364, 2381, 6100, 6679})
"""Those that take seconds, and whose like others find as well: not among the tests."""
