"""What no store can say of itself: whose it is, under which licence, how it was collected, what it is good for.

Of FMF-Sim and of the benchmark's own recordings the statements are here, as far as they are known. For any other
furnace its owner states them, in a TOML file; one that is missing is an error, never an invention.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmfbench.cards.store_facts import StoreFacts
from fmfbench.errors import InputError
from fmfbench.files.local import local_path

__all__ = ["DATA_KEYS", "NO_LICENCE", "RAI_KEYS", "TEMPLATE", "read_statements", "statements_of"]

NO_LICENCE = "not stated"
DATA_KEYS = ("name", "description", "creator", "url", "licence", "published", "citation", "maintenance")
# Names of the Croissant RAI vocabulary 1.0 without its prefix, in the order of the datasheet.
RAI_KEYS = (
    "dataCollection",
    "dataCollectionType",
    "dataCollectionTimeFrame",
    "dataCollectionRawData",
    "dataCollectionMissingData",
    "dataPreprocessingProtocol",
    "dataManipulationProtocol",
    "dataImputationProtocol",
    "dataAnnotationProtocol",
    "dataAnnotationPlatform",
    "dataAnnotationAnalysis",
    "annotationsPerItem",
    "annotatorDemographics",
    "machineAnnotationTools",
    "dataUseCases",
    "dataLimitations",
    "dataBiases",
    "dataSocialImpact",
    "personalSensitiveInformation",
    "dataReleaseMaintenancePlan",
)
_BENCHMARK = "https://github.com/GaochangWu/FMF-Benchmark"
_PAPER = (
    "@article{wu2025crossmodal, author={Wu, Gaochang and Zhang, Yapeng and Deng, Lan and Zhang, Jingxin and Chai, "
    "Tianyou}, title={Cross-Modal Learning for Anomaly Detection in Complex Industrial Process: Methodology and "
    "Benchmark}, journal={IEEE Transactions on Circuits and Systems for Video Technology}, volume={35}, number={3}, "
    "pages={2632--2645}, year={2025}, doi={10.1109/TCSVT.2024.3491865}}"
)
_TASK = (
    "Anomaly detection at a fused magnesium furnace from synchronous video and three-phase arc current: is a frame "
    "abnormal, and which of its pixels are? "
)
_FURNACE_LIMITS = (
    "Few recordings of one furnace: nothing here says how a model does on another one. Frames 40 ms apart "
    "are nearly the "
    "same frame, so the number of frames is not the number of independent samples."
)

TEMPLATE = """\
# What a store cannot say of itself. Fill in every line; `fmfbench card STORE --facts THIS_FILE -o DIR` reads it.
name = ""         # of the data set
description = ""  # one paragraph: what was recorded, where, what is labelled
creator = ""      # who made the recordings
url = ""          # where the data set is described or had
licence = ""      # an SPDX identifier or a URL; "not stated" where nobody stated one
published = ""    # YYYY-MM-DD
citation = ""     # BibTeX, or a sentence
maintenance = ""  # who answers questions, and what happens when an error is found

[rai]             # Croissant RAI vocabulary
dataCollection = ""                # how: cameras, meters, rates, synchronisation
dataCollectionType = ""            # for example "Physical data collection"
dataCollectionTimeFrame = ""       # YYYY-MM-DD/YYYY-MM-DD; left empty where the store knows the dates
dataCollectionRawData = ""         # what the raw data was, and whether it is kept
dataAnnotationProtocol = ""        # how frames and pixels were labelled
dataAnnotationPlatform = ""        # with which tool
dataAnnotationAnalysis = ""        # how labels were checked
annotationsPerItem = ""            # by how many people each item was labelled
annotatorDemographics = ""         # who they were
dataUseCases = ""
dataLimitations = ""
dataBiases = ""
dataSocialImpact = ""
personalSensitiveInformation = ""  # are people in the picture?
dataReleaseMaintenancePlan = ""
"""


def read_statements(path: Path) -> dict[str, Any]:
    """A TOML file of statements: keys of `DATA_KEYS`, and a table `rai` of `RAI_KEYS`, all of them text.

    Raises:
        InputError: it cannot be read, is no TOML, or holds other keys or anything that is not text.
    """
    try:
        found = tomllib.loads(local_path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        told = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(
            f"{path}: expected TOML of statements (`fmfbench card --template`), got {told}"
        ) from None
    rai = found.pop("rai", {})
    tables = ((found, DATA_KEYS, ""), (rai if isinstance(rai, dict) else {"rai": rai}, RAI_KEYS, "rai."))
    wrong = [f"{prefix}{key}" for table, known, prefix in tables for key in table if key not in known]
    wrong += [
        f"{prefix}{key} (no text)"
        for table, known, prefix in tables
        for key, value in table.items()
        if key in known and not isinstance(value, str)
    ]
    if wrong:
        raise InputError(
            f"{path}: expected texts of the names in `fmfbench card --template`, got {', '.join(wrong)}"
        )
    stated = {key: value.strip() for key, value in found.items() if value.strip()}
    return stated | {"rai": {key: value.strip() for key, value in rai.items() if value.strip()}}


def statements_of(facts: StoreFacts, stated: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All statements for a store: those known of its kind, what the store says, and what its owner states over both.

    Args:
        facts: of the store.
        stated: of `read_statements`.

    Raises:
        InputError: some are missing, all named; or simulated data would bear a name without FMF-Sim in it.
    """
    stated = dict(stated or {})
    told = {"FMF-Sim": _simulated, "FMF-Benchmark": _benchmark}.get(facts.kind, _own)(facts)
    rai = _store_rai(facts) | told.pop("rai") | stated.pop("rai", {})
    found = told | stated | {"rai": rai}
    missing = [key for key in DATA_KEYS if not found.get(key)] + [
        f"rai.{k}" for k in RAI_KEYS if not rai.get(k)
    ]
    if missing:
        raise InputError(
            f"card: expected statements of what a store of one's own cannot say, got none of {', '.join(missing)}; "
            "write them into a file as `fmfbench card --template` prints it, and name it with --facts"
        )
    if facts.kind == "FMF-Sim" and "FMF-Sim" not in found["name"]:
        raise InputError(
            f"card: expected a name with FMF-Sim in it, for the data is simulated, got {found['name'][:80]!a}"
        )
    for key, text in (
        ("published", found["published"]),
        ("rai.dataCollectionTimeFrame", rai["dataCollectionTimeFrame"]),
    ):
        dates = text.split("/") if key.startswith("rai") else [text]
        if len(dates) > 2 or not all(re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", date) for date in dates):
            raise InputError(f"card: expected a date YYYY-MM-DD for {key}, got {text[:40]!a}")
    if not re.fullmatch(r"(https?://|urn:)[^\s<>\"']+", found["url"]):
        raise InputError(f"card: expected a URL (http, https or urn) for url, got {found['url'][:80]!a}")
    return found


def _own(facts: StoreFacts) -> dict[str, Any]:
    return {"rai": {}}


def _simulated(facts: StoreFacts) -> dict[str, Any]:
    return {
        "name": f"FMF-Sim ({facts.info['name']})",
        "description": (
            "SIMULATED DATA. FMF-Sim is a simulated fused magnesium furnace in the file forms of "
            "FMF-Benchmark; nothing "
            f"in it was measured, and no figure on it says anything about the real benchmark. {_TASK}"
            f"{facts.info['frames']} frames."
        ),
        "creator": "fmfbench simulate",
        "url": f"urn:sha256:{facts.info['fingerprint']}",  # nobody has put it anywhere yet
        "licence": NO_LICENCE,
        "published": facts.day,
        "citation": (
            "FMF-Sim, the simulated furnace of fmfbench (its data_cards/fmf_sim.md says how it is made). "
            "It imitates the "
            "form of: " + _PAPER
        ),
        "maintenance": "The same preset, seed and version of `fmfbench simulate` give the same bytes again.",
        "rai": {
            "dataCollection": "None: computed by `fmfbench simulate` from a seed; dates in the files are fictional.",
            "dataCollectionType": "Software collection: simulation",
            "dataCollectionRawData": "Files in the form of the benchmark's own, written by the simulator.",
            "dataAnnotationProtocol": (
                "The simulator knows what is abnormal. Labels are made from that as people make them: keyframe boxes, "
                "propagated and refined by a weighted median; the truth lies beside the recordings, not in the store."
            ),
            "dataAnnotationPlatform": "None: simulated.",
            "dataAnnotationAnalysis": "data_cards/fmf_sim.md of fmfbench: how far the labels are from the truth.",
            "annotationsPerItem": "1, simulated",
            "annotatorDemographics": "None: no people labelled.",
            "dataUseCases": "Trying, testing and comparing software and methods without the real recordings.",
            "dataLimitations": "Simulated: what holds here need not hold at a furnace. " + _FURNACE_LIMITS,
            "dataBiases": "Whatever the simulator's authors believed of a furnace; data_cards/fmf_sim.md lists it.",
            "dataSocialImpact": (
                "None of its own. A detector that was judged on simulated data alone must not guard people."
            ),
            "personalSensitiveInformation": "None: no person was recorded.",
            "dataReleaseMaintenancePlan": "A change of the simulator changes its version, which the card names.",
        },
    }


def _benchmark(facts: StoreFacts) -> dict[str, Any]:
    asked = "Not stated in what is public; ask the dataset's authors."
    return {
        "name": "FMF-Benchmark, pixel-level set",
        "description": (
            f"{_TASK}Three recordings of a real plant, converted by fmfbench from the authors' files; "
            f"{facts.info['frames']} frames with a pixel mask each."
        ),
        "creator": "Gaochang Wu, Yapeng Zhang, Lan Deng, Jingxin Zhang, Tianyou Chai",
        "url": _BENCHMARK,
        "licence": NO_LICENCE,
        "published": "2025",
        "citation": _PAPER,
        "maintenance": "The recordings are their authors' to give and to correct: see their repository.",
        "rai": {
            "dataCollection": (
                "Video at 25 frames a second and three-phase arc current at 2 Hz, recorded at the same "
                "time from different "
                "production batches of a fused magnesium furnace (Wu et al. 2025)."
            ),
            "dataCollectionType": "Physical data collection",
            "dataCollectionTimeFrame": "/".join(facts.dates)
            or "2023",  # as rows quoted in the released code have it
            "dataCollectionRawData": asked,
            "dataAnnotationProtocol": (
                "Boxes on keyframes, propagated between them, refined to pixels by a weighted median "
                "filter guided by the "
                "frame, checked by people (Wu et al. 2025, section IV-A). A frame is abnormal when any pixel is."
            ),
            "dataAnnotationPlatform": asked,
            "dataAnnotationAnalysis": asked,
            "annotationsPerItem": asked,
            "annotatorDemographics": asked,
            "dataUseCases": "Research on multimodal anomaly detection in an industrial process; comparing methods.",
            "dataLimitations": _FURNACE_LIMITS
            + " Test windows reach back into frames of other splits (contexts masked and strict of fmfbench avoid it).",
            "dataBiases": "One plant and a few days; half of the test frames are abnormal, more than in operation.",
            "dataSocialImpact": (
                "Meant to make furnaces safer. A miss lets a dangerous state go on; a false alarm costs "
                "production and trust."
            ),
            "personalSensitiveInformation": "No person is labelled; whether one is ever in the picture is not stated.",
            "dataReleaseMaintenancePlan": asked,
        },
    }


def _store_rai(facts: StoreFacts) -> dict[str, str]:
    """What the store itself says."""
    recordings = facts.recordings
    gaps = sum(r["frame_gaps"] for r in recordings)
    longest = max((r["longest_frame_gap_seconds"] for r in recordings), default=0.0)
    rows = sum(r["current_rows"] for r in recordings)
    bad = sum(r["current_nan_rows"] for r in recordings)
    return {
        "dataCollectionTimeFrame": "/".join(facts.dates),
        "dataCollectionMissingData": (
            f"{gaps} gaps between frames, the longest {longest:.2f} s; {bad} of {rows} rows of current hold NaN; "
            f"{facts.info['classes']['unlabelled']} frames are unlabelled."
        ),
        "dataPreprocessingProtocol": (
            f"Converted by {facts.info['created_by']} from layout {facts.info['layout']}: frames upright, "
            "uint8 RGB, lossless; "
            "currents in A as stored in the source; times in ns."
        ),
        "dataManipulationProtocol": "None: no frame or row was dropped, resampled or normalised.",
        "dataImputationProtocol": (
            "None in the store. Windows hold the last row of current for up to 1 s and fill from the "
            "nearest valid position "
            "beyond; masks of validity say which are real."
        ),
        "machineAnnotationTools": "; ".join(facts.tools) or "None recorded.",
    }
