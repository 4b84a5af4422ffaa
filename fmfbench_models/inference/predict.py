"""From a trained model and a store to a prediction file, in memory that does not grow with the split."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import InputError, PredictionError
from fmfbench.exchange.outliers import Outliers
from fmfbench.exchange.pixel_scores import PIXEL_TYPES
from fmfbench.exchange.predictions import write_predictions
from fmfbench.files.problems import check_target
from fmfbench.files.remote import Place, parse_place
from fmfbench.store.split_names import SOURCE, parse_split
from fmfbench.store.splits import has_guard, per_second_rows
from fmfbench.torch import WindowDataset, make_loader
from fmfbench.windows.division import reach_seconds
from fmfbench.windows.injected import InjectedWindows
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench.windows.reader import Windows
from fmfbench_models.checkpoint import load_checkpoint
from fmfbench_models.inference.calibration import calibration_of
from fmfbench_models.inference.engine import Engine, EngineName, make_engine
from fmfbench_models.inference.sharded import collect, share_of
from fmfbench_models.interface import Model
from fmfbench_models.parts.backbones import trunk_of
from fmfbench_models.parts.progress import Progress
from fmfbench_models.training.folder import versions
from fmfbench_models.training.parallel import joined
from fmfbench_models.training.samples import left_out_of
from fmfbench_models.training.step import autocast, to_device, to_float32

__all__ = ["PredictionJob", "chosen_windows", "last_of_each_second", "model_protocol", "predict"]


def model_protocol(model: Model, protocol: str | WindowProtocol | None = None) -> WindowProtocol:
    """The window rules for a model: those named, else those it was trained with.

    InputError where it has none.
    """
    if protocol is not None:
        return get_protocol(protocol)
    if model.meta.protocol is None:
        raise InputError(f"{model.meta.name}: this model was never trained; name a protocol")
    return get_protocol(model.meta.protocol)


@dataclass(frozen=True, kw_only=True)
class PredictionJob:
    """The samples of a split through a model: what `run` writes, and `plan` tells beforehand.

    model: a model, or what `load_checkpoint` takes. data: an open data set, or its path or URL. out: the file.
    protocol, context: those of training by default.
    outliers: predict on the samples of an outlier file instead of a split's, each as that file shows it.
    transform: changes the tensors of a sample on the way in (see `fmfbench.torch.WindowDataset`).
    per_second: only the last sample of each second, for `score --per-second`.
    meta: joins the file's own: model, protocol, context, fingerprint, seed, normal_only, backbone, recipe, versions.
    pixel_scores: "float16", "float32" or "uint8" also writes the abnormal probability of each pixel, upright, in that
    type: H*W times 2, 4 or 1 bytes a sample before compression, on disk throughout.
    engine: what runs the model: "torch", "onnx" (ONNX Runtime, on the CPU) or "compile"; see `engine.make_engine`.
    part: only these of the samples, in order of id; the file says in all else what that of all samples says.

    Example:
        >>> from fmfbench_models.inference.predict import PredictionJob
        >>> job = PredictionJob(model="runs/fmformer", data="fmf.zarr", out="predictions.npz", per_second=True)
        >>> job.split, job.batch_size
        ('test', 64)
    """

    model: Model | str | os.PathLike[str]
    data: Dataset | Place | str | os.PathLike[str]
    out: str | os.PathLike[str]
    split: str = "test"
    protocol: str | WindowProtocol | None = None
    context: str | None = None
    batch_size: int = 64
    workers: int = 0
    device: str | None = None
    cache: str | None = None
    outliers: Outliers | None = None
    transform: Callable[..., Any] | None = None
    per_second: bool = False
    meta: dict[str, Any] | None = None
    pixel_scores: str | None = None
    engine: EngineName = "torch"
    part: slice | None = None

    def run(self) -> Path:
        """Write scores, and upright masks where the model is dense; the path of the file.

        Of a calibrated model (see `calibration`) also the decisions at its threshold.

        Under `torchrun` every process judges a part, and the first one writes; the file is that of one process.

        Raises:
            InputError: no such split or protocol, windows that do not fit the model, pixel scores of a model that is
                not dense, outliers once a second, or an engine that cannot run the model.
            PredictionError: `out` cannot be written, or the model gives NaN.
        """
        model, windows = self._prepared()
        facts, windows = self._facts(model, windows), self._own(windows)
        out = Path(self.out)
        with joined("cpu" if self.engine == "onnx" and self.device is None else self.device) as world:
            shares = [share_of(len(windows), self.batch_size, rank, world.size) for rank in range(world.size)]
            share = shares[world.rank]
            engine = make_engine(model.to(world.device).eval(), self.engine)
            # On some systems the file behind a memory map cannot go while it is mapped, as it is by an error's
            # traceback.
            folder = out.absolute().parent if world.is_first else None
            with tempfile.TemporaryDirectory(
                dir=folder, prefix=".predict-", ignore_cleanup_errors=True
            ) as scratch:
                arrays: dict[str, Any] | None = {}
                if share.start < share.stop:
                    own = windows if world.size == 1 else windows.select(windows.sample_ids[share])
                    loader = make_loader(
                        WindowDataset(own, self.transform),
                        batch_size=self.batch_size,
                        num_workers=self.workers,
                        pin_memory=world.device.type == "cuda",
                        rank=0,
                        world_size=1,
                    )
                    upright = windows.protocol.transposed
                    arrays = _run(
                        engine,
                        loader,
                        len(own),
                        world.device,
                        upright,
                        Path(scratch),
                        self.pixel_scores,
                        calibration_of(model).temperature,
                    )
                if world.size > 1:
                    arrays = collect(world, arrays or {}, shares, Path(scratch))
                if arrays is not None:
                    if calibration_of(model).threshold != 0.5:
                        above = arrays["score"] > calibration_of(model).threshold
                        arrays["pred"] = above.astype(np.uint8)
                    write_predictions(out, sample_id=windows.sample_ids, meta=facts, **arrays)
                del arrays
            world.wait()
        return out

    def plan(self) -> dict[str, Any]:
        """What `run` would write: its facts, how many samples and batches, and bytes before compression.

        Nothing is written, and no window is read. Raises what `run` raises before it judges.
        """
        model, windows = self._prepared()
        facts, windows = self._facts(model, windows), self._own(windows)
        sizes = [(h * w, len(places)) for (h, w), places in windows.samples.sizes()]
        depth = 0 if self.pixel_scores is None else np.dtype(self.pixel_scores).itemsize
        named = ("model", "protocol", "context", "split", "backbone", "recipe")
        return {
            "out": str(self.out),
            **{name: facts[name] for name in named},
            "engine": self.engine,
            "num_samples": len(windows),
            "num_batches": -(-len(windows) // self.batch_size),
            "mask_bytes": sum(-(-pixels // 8) * count for pixels, count in sizes) if model.dense else 0,
            "pixel_score_bytes": sum(pixels * depth * count for pixels, count in sizes),
        }

    def _own(self, windows: Windows) -> Windows:
        return windows if self.part is None else windows.select(windows.sample_ids[self.part])

    def _prepared(self) -> tuple[Model, Windows]:
        """The model and all windows of the file, in order of id; what cannot be is refused here."""
        if self.outliers is not None and self.per_second:
            raise InputError(
                "predict: expected outliers or per_second, got both; outliers are samples of their own"
            )
        check_target(Path(self.out))
        model = self.model if isinstance(self.model, Model) else load_checkpoint(self.model)
        data = self.data if isinstance(self.data, Dataset) else fmfbench.open_dataset(parse_place(self.data))
        protocol = model_protocol(model, self.protocol)
        context = self.context or model.meta.provenance.get("context", "full")
        windows = chosen_windows(
            data, self.split, protocol, context, self.cache, self.outliers, self.per_second
        )
        if self.pixel_scores is not None:
            check_pixel_type(model, self.pixel_scores)
        return model, windows

    def _facts(self, model: Model, windows: Windows) -> dict[str, Any]:
        """What the file says of itself."""
        provenance = model.meta.provenance
        return {
            "model": model.meta.name,
            "config": model.meta.config,
            "protocol": windows.protocol.name,
            "protocol_fields": windows.protocol.to_dict(),
            "context": windows.context,
            "split": windows.dataset.split_label(windows.split),
            "fingerprint": windows.dataset.fingerprint,
            **_seen_in_training(model, windows),
            "seed": provenance.get("seed"),
            "normal_only": provenance.get("normal_only", False),
            **calibration_of(model).facts(),
            "backbone": backbone_of(model),
            "recipe": provenance.get("recipe_name", "shared"),
            "reinterpretation": provenance.get("reinterpretation", False),
            "versions": versions(),
            **({} if self.outliers is None else {"outliers": dict(self.outliers.meta)}),
            **({"guard_seconds": reach_seconds(windows.protocol)} if _guarded(windows) else {}),
            **({"sample_set": "per-second"} if self.per_second else {}),
            **({} if self.engine == "torch" else {"engine": self.engine}),
            **(self.meta or {}),
        }


def predict(
    model: Model | str | os.PathLike[str],
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    **options: Any,
) -> Path:
    """`PredictionJob(...).run()`: write the prediction file of a model; its options are those of `PredictionJob`."""
    return PredictionJob(model=model, data=data, out=out, **options).run()


def chosen_windows(
    data: Dataset,
    split: str,
    protocol: WindowProtocol,
    context: str,
    cache: str | None = None,
    outliers: Outliers | None = None,
    per_second: bool = False,
) -> Windows:
    """The windows that a prediction file covers, in order of id; InputError where there are none."""
    windows: Windows
    if outliers is not None:
        windows = InjectedWindows(data, outliers, protocol, context)
    else:
        windows = data.windows(split, protocol, context, cache=cache)
        if per_second:
            windows = last_of_each_second(windows)
    if not len(windows):
        raise InputError(f"{data.path}: expected samples of split {split!r}, got none")
    return windows


def _seen_in_training(model: Model, windows: Windows) -> dict[str, int]:
    """{"seen_in_training": n} where n of the samples are of the split part that the model was trained on."""
    data, trained = windows.dataset, model.meta.provenance.get("data", {})
    name = trained.get("split", SOURCE)
    if name not in data.split_names or data.fingerprint_of(name) != trained.get("fingerprint"):
        return {}
    divided, fold = data.with_split(name), model.meta.provenance.get("fold")
    ids = divided.sample_ids("train")
    if fold is not None:
        ids = np.setdiff1d(ids, divided.sample_ids(left_out_of(fold), guard_seconds=0.0))
    seen = int(np.isin(windows.sample_ids, ids).sum())
    return {"seen_in_training": seen} if seen else {}


def _guarded(windows: Windows) -> bool:
    """Whether its samples depend on how far its windows look back."""
    return has_guard(parse_split(windows.split)[1])


def last_of_each_second(windows: Windows) -> Windows:
    """Those that the per-second sample set holds."""
    data, ids = windows.dataset, windows.sample_ids
    recording, frame = data.locate(ids)
    times = [own.frame_time for own in data.recordings.values()]
    time = np.array([times[r][f] for r, f in zip(recording, frame, strict=True)], np.int64)
    return windows.select(ids[per_second_rows(recording, time)])


def backbone_of(model: Model) -> dict[str, str] | None:
    """A model's trunk and where its first weights came from, as training recorded it; None without a trunk."""
    trunk = trunk_of(model)
    if trunk is None:
        return None
    recorded = model.meta.provenance.get("backbone")
    return recorded or {"trunk": type(trunk).__name__, "weights": "unrecorded"}


def check_pixel_type(model: Model, pixel_scores: str) -> None:
    """InputError unless pixel scores of this type can be had of the model."""
    if pixel_scores not in PIXEL_TYPES:
        raise InputError(f"pixel scores: expected {', '.join(PIXEL_TYPES)}, got {pixel_scores!r}")
    if not model.dense:
        raise InputError(
            f"expected a model with pixel scores, got {model.meta.name}, which judges whole frames only"
        )


@torch.inference_mode()
def _run(
    run: Engine,
    loader: Any,
    count: int,
    device: torch.device,
    transposed: bool,
    scratch: Path,
    pixel_scores: str | None,
    temperature: float,
) -> dict[str, Any]:
    """score (N,), and on disk mask_bits (N, bytes), with mask_shape, and pixel_score (N, H, W) where asked for.

    temperature: of `Output.scores`.
    """
    score = np.empty(count, np.float32)
    found: dict[str, Any] = {"score": score}
    done = 0

    def put(name: str, rows: slice, values: NDArray[Any]) -> None:
        if name not in found:
            shape = (count, *values.shape[1:])
            found[name] = np.lib.format.open_memmap(scratch / f"{name}.npy", "w+", values.dtype, shape)
        found[name][rows] = values

    def upright(pixels: Tensor) -> NDArray[Any]:
        return (pixels.transpose(1, 2) if transposed else pixels).cpu().numpy()

    with Progress(count, "window", "predict") as bar:
        for cpu_batch in loader:
            batch = to_device(cpu_batch, device)
            with autocast(device):
                output = to_float32(run(batch))
            rows = slice(done, done + len(batch["sample_id"]))
            score[rows] = output.scores(temperature).float().cpu().numpy()
            masks = output.masks()
            if masks is not None:
                mask = upright(masks)
                found["mask_shape"] = mask.shape[1:]
                put("mask_bits", rows, np.packbits(mask.reshape(len(mask), -1), axis=1))
            if pixel_scores is not None:
                probability = output.pixel_scores()
                assert probability is not None
                put("pixel_score", rows, _stored(upright(probability.float()), pixel_scores))
            done = rows.stop
            bar.update(rows.stop - rows.start)
    return found


def _stored(probability: NDArray[np.float32], pixel_type: str) -> NDArray[Any]:
    """Rounded to the nearest of the type; uint8 counts 255ths. PredictionError for NaN, which uint8 cannot say."""
    if np.isnan(probability).any():
        raise PredictionError(
            "pixel scores: expected numbers in [0, 1], got NaN from the model; look at its weights"
        )
    if pixel_type == "uint8":
        return np.round(probability * 255).astype(np.uint8)
    return probability.astype(pixel_type)
