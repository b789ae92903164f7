"""What is published of Pan-Human Azimuth: where its weights are, which versions there are, checksums of its tables."""

from __future__ import annotations

DOI = "10.5281/zenodo.20401417"
RECORD = "https://zenodo.org/api/records/20401417"  # the record of that DOI, as JSON
WEIGHTS_NAME = "panhumanpy_inference_model_{}.keras"
TABLES_PACKAGE = "panhumanpy==1.0.0"
NEWEST_VERSION = "v1"
WIDTHS = {5039: "v0", 5055: "v1"}  # genes of the panel -> model version
LICENCE = "weights CC BY 4.0, tables MIT (Satija Lab)"

CHECKSUM_DIGITS = 16
CHECKSUMS = {  # of the tables in panhumanpy 1.0.0, the first digits of their SHA-256
    "8192adabb0a73098": "gene panel of v0",
    "855155ea7f00d8a8": "label encoders of v0",
    "c5b49361cea39fce": "broad table of v0",
    "df60cec9ee95db87": "medium table of v0",
    "5d83807c002147c2": "fine table of v0",
    "84d178ba88ae1962": "gene panel of v1",
    "9e652bd5b044472d": "label encoders of v1",
    "8429a45878c20e4c": "broad table of v1",
    "697e082c45e1d4f2": "medium table of v1",
    "a1ed56b80746edee": "fine table of v1",
    "b8eb0668a4faedf8": "ontology crosswalk of v0 and v1",
    "b1b2d54f953b2bb9": "calibrator of v1, level 1",
    "26a92a93f21dc01e": "calibrator of v1, level 2",
    "2ddb39c86114c569": "calibrator of v1, level 3",
    "3445126bf464a2d2": "calibrator of v1, level 4",
    "6e4450e0029a3422": "calibrator of v1, level 5",
    "07e7646a340033ca": "calibrator of v1, level 6",
    "575822b144024e23": "calibrator of v1, level 7",
    "0c81c49be0fbb958": "calibrator of v1, level 8",
}


def known_as(sha256: str) -> str:
    """Which published file has that checksum; "" if none that is known here."""
    return CHECKSUMS.get(sha256[:CHECKSUM_DIGITS], "")
