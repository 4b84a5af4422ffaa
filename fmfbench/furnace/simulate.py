"""`simulate`: write the simulated furnace (FMF-Sim) in the forms that the real data has.

    OUT/README.txt, OUT/fmf-sim.json        what it is; the parameters it was made with
    OUT/pixel-level/...                     layout v2: videos/, currents/, timestamps/, train.json, test.json
    OUT/FMF-Sim-1.mat ...                   layout v1
    OUT/FMF-Sim-1.avi, FMF-Sim-1.csv ...    layout recording
    OUT/truth/FMF-Sim-1.npz, keyframes.json what no camera and no ammeter sees; never part of the source

Same preset, seed and version give the same bytes in every file, on any number of workers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fmfbench.errors import InputError
from fmfbench.files.atomic import write_text
from fmfbench.files.claims import is_free
from fmfbench.files.local import local_path
from fmfbench.files.lock import target_lock
from fmfbench.furnace import NAME, VERSION
from fmfbench.furnace.current import SIGNATURES
from fmfbench.furnace.drawing import Drawing
from fmfbench.furnace.events import TEST, TRAIN, UNUSED
from fmfbench.furnace.layouts import LAYOUTS, is_finished, write_index, write_recording
from fmfbench.furnace.mat_write import MAT_VERSIONS
from fmfbench.furnace.plan import Plan, Preset, make_plan, parse_preset
from fmfbench.furnace.raw import furnace_box
from fmfbench.furnace.render import Furnace
from fmfbench.furnace.truth import keyframe_tracks

__all__ = ["simulate"]

PARAMETERS_FILE = "fmf-sim.json"

README = """\
FMF-Sim {version}: a SIMULATED fused magnesium furnace. Nothing in this folder was measured.

Written by fmfbench's `simulate` (parameters: fmf-sim.json). Layout {layout}; convert it with
    fmfbench convert THIS_FOLDER fmf-sim.zarr
It has the form of FMF-Benchmark's recordings, so that everything can be tried and tested before the real data is at
hand. A figure measured on it is a figure on FMF-Sim, and says nothing about the real furnace or the real benchmark.
truth/ holds what no camera and no ammeter sees (occlusion, event times, what is hot and how far the labels are from
it, the signature's course): for analysis only.
Dates in the files are fictional.
"""


def simulate(
    out: str | Path,
    preset: str = "small",
    seed: int = 0,
    layout: str = "v2",
    mat: str = "v7.3",
    workers: int = 1,
    *,
    truth: str = "states",
    anomaly_free: bool = False,
    signature: str = "mixed",
    progress: bool = False,
) -> dict[str, Any]:
    """Write one preset of FMF-Sim into the folder `out`, which `convert` then takes.

    A run that was killed resumes where the same call finds it: finished files are kept. `truth` is "states" or
    "frames" (also the clean scene and the heat of every frame). `anomaly_free` makes the twin: the same furnace,
    light and mist without hot place or signature, all labels 0. `signature` says which way the current goes in an
    event: "mixed" draws it for each, "calm" and "rough" set it. `workers` are threads. `progress` shows a bar on
    standard error if that is a terminal.

    Returns:
        A summary that JSON can hold: what was written, per recording frames, seconds, splits, balance, events.

    Raises:
        InputError: an option that does not exist, or `out` holds something else.
        BusyError: another process is writing into `out`.

    Example:
        >>> summary = fmfbench.simulate("another", preset="tiny", seed=7)
        >>> summary["name"], sorted(summary["recordings"])
        ('FMF-Sim', ['FMF-Sim-1', 'FMF-Sim-2', 'FMF-Sim-3'])
    """
    size = parse_preset(preset)
    _parse_choice("layout", layout, LAYOUTS)
    _parse_choice("MAT version", mat, MAT_VERSIONS)
    _parse_choice("truth", truth, ("states", "frames"))
    _parse_choice("signature", signature, SIGNATURES)
    if workers < 1:
        raise InputError(f"workers: expected 1 or more, got {workers}; name a number of threads")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed: expected 0 to 2^63 - 1, got {seed}; choose another")
    folder = local_path(out)
    parameters = {
        "name": NAME,
        "version": VERSION,
        "preset": preset,
        "seed": seed,
        "layout": layout,
        "mat": None if layout == "recording" else mat,
        "anomaly_free": anomaly_free,
        "signature": signature,
        "truth": truth,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with target_lock(folder.absolute()):
        plans, kept = _write(folder, parameters, size, workers, progress)
    return {
        **parameters,
        "out": str(folder),
        "kept": kept,
        "notes": _notes(layout, plans[0]),
        "recordings": {plan.name: _describe(plan) for plan in plans},
    }


def _write(
    folder: Path, parameters: dict[str, Any], size: Preset, workers: int, progress: bool
) -> tuple[list[Plan], list[str]]:
    """Write what is not there yet; returns the plans and the names of the recordings that were."""
    seed, layout, twin = parameters["seed"], parameters["layout"], parameters["anomaly_free"]
    _claim(folder, parameters)
    signature = parameters["signature"]
    plans = [
        make_plan(size, k, seed, anomaly_free=twin, signature=signature) for k in range(len(size.recordings))
    ]
    kept, tracks = [], {}
    with Drawing(workers, total=sum(plan.frames for plan in plans), progress=progress) as drawing:
        for plan in plans:
            furnace = Furnace(plan)
            tracks[plan.name] = keyframe_tracks(furnace)
            if is_finished(folder, plan.name, layout):
                kept.append(plan.name)
                drawing.skip(plan.frames)
            else:
                mat, truth = parameters["mat"], parameters["truth"]
                write_recording(folder, furnace, drawing, layout=layout, mat=mat, truth=truth)
    keyframes = {"schema": 1, "size": [size.width, size.height], "recordings": tracks}
    _write_text(folder / "truth" / "keyframes.json", json.dumps(keyframes, indent=1) + "\n")
    write_index(folder, plans, layout)
    _write_text(folder / "README.txt", README.format(version=VERSION, layout=layout))
    return plans, kept


def _claim(folder: Path, parameters: dict[str, Any]) -> None:
    """Make `folder` and mark it with the parameters; resume one that bears the same mark."""
    mark = folder / PARAMETERS_FILE
    text = json.dumps(parameters, indent=1) + "\n"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder to write FMF-Sim into, got a file; name another OUT")
    if mark.is_file():
        if mark.read_bytes() != text.encode():
            raise InputError(
                f"{folder}: expected an empty folder or the same simulation, got FMF-Sim made with other parameters "
                f"({PARAMETERS_FILE}); name another OUT or remove it"
            )
    elif not is_free(folder):
        raise InputError(f"{folder}: expected an empty folder, got other files in it; name another OUT")
    folder.mkdir(parents=True, exist_ok=True)
    _write_text(mark, text)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def _parse_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{what}: expected one of {', '.join(choices)}, got {value!r}; choose one of these")


def _notes(layout: str, plan: Plan) -> list[str]:
    notes = ["FMF-Sim is simulated: no figure on it is a figure on the real data"]
    if layout == "v1":
        notes.append("V1 has no value for unused: guard frames are written as 0 (train)")
        notes.append("V1 holds one current per frame: each 2 Hz value is repeated")
    if layout == "recording":
        notes.append("raw recordings hold neither labels nor splits; truth/keyframes.json has the events")
        crop = ",".join(str(value) for value in furnace_box(plan))
        notes.append(f"the furnace: convert --crop {crop} --size {plan.width}x{plan.height}")
    return notes


def _describe(plan: Plan) -> dict[str, Any]:
    label, timing = plan.class_label, plan.timing
    splits = {"train": TRAIN, "test": TEST, "unused": UNUSED}
    return {
        "frames": plan.frames,
        "height": plan.height,
        "width": plan.width,
        "seconds": len(np.unique(timing.frame_second)),
        "missing_seconds": list(timing.missing_seconds),
        "current_rows": len(timing.current_time),
        "events": 0 if plan.anomaly_free else len(plan.events),
        "abnormal": int(label.sum()),
        "split": {name: int((plan.split == value).sum()) for name, value in splits.items()},
        "abnormal_in": {name: int(label[plan.split == value].sum()) for name, value in splits.items()},
    }
