"""Expert system: rules over the three currents, in the spirit of a plant's own. A re-interpretation.

Z. Wu, Y. Wu, Chai, Sun, "Data-Driven Abnormal Condition Identification and Self-Healing Control System for Fused
Magnesium Furnace", IEEE Trans. Industrial Electronics 62(3):1703-1715, 2015. Only its abstract could be had: rules
over the tracking error, the rate and the duration of current fluctuations, for semi-molten, overheating and
abnormal feeding and exhausting conditions, which show through the arc's resistance. The bodies of the rules, their
signs and their thresholds are ours.

Over the last minute of current, with I* the set point of a phase:

    tracking error   e(k)   = (I(k) - I*) / I*
    change rate      r(k)   = (I(k) - I(k-m)) / (m dt I*)
    arc resistance   rho(k) = I* / I(k)       a proxy: of total phase resistance, at constant voltage

    R1 deviation     |e| stays above its threshold for at least so many seconds
    R2 fluctuation   |r| is above its threshold for at least such a share of the window
    R3 resistance    |rho - 1| is above its threshold for at least such a share of the window

each in at least n of the three phases; abnormal = R1 or R2 or R3. The set point is the median current of normal
training samples; the six thresholds are those that give the largest Youden index on training samples, found one
rule at a time.

What differs from the original: everything that the abstract does not say, and set points, which the benchmark does
not hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, FitData, Model, Output
from fmfbench_models.parts.blocks import needed
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Expert", "ExpertConfig", "Rules"]

Array = NDArray[Any]

AMPLITUDES = 16  # thresholds tried of each deviation, in even steps up to a value that few exceed
TOP_QUANTILE = 0.995
MAX_SWEEPS = 10  # of the search over the three rules; it ends when none of them improves


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """Settings of Expert.

    window W: samples that the rules look at, the last ones; fewer where a protocol gives fewer. rate_step m. phases n.
    current_hz: 1 / dt. setpoint: "train", or "window": the median of all current that a window holds. max_windows: how
    many training samples at most, evenly spread, decide the thresholds.
    """

    window: int = 120
    rate_step: int = 2
    phases: int = 2
    current_hz: float = 2.0
    setpoint: Literal["train", "window"] = "train"
    max_windows: int = 20_000

    def __post_init__(self) -> None:
        if not self.window > self.rate_step >= 1:
            raise InputError(
                f"expert: expected window > rate_step >= 1, got window {self.window} and rate_step {self.rate_step}"
            )
        if self.phases not in {1, 2, 3}:
            raise InputError(f"expert: expected phases 1, 2 or 3, got {self.phases}")
        if not self.current_hz > 0 or self.max_windows < 2:
            raise InputError(
                f"expert: expected current_hz above 0 and max_windows of 2 or more, "
                f"got {self.current_hz} and {self.max_windows}"
            )


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything that a decision depends on; plain numbers.

    amplitude: thresholds of |e|, |r| (1/s), |rho - 1|. duration: seconds for R1, shares of the window for R2 and R3;
    beyond the window it never fires.
    """

    amplitude: tuple[float, float, float]
    duration: tuple[float, float, float]
    phases: int = 2
    rate_step: int = 2
    current_hz: float = 2.0


def tracking_error(current: Array, setpoint: Array) -> Array:
    """e, of current (n, t, 3) in A and set points broadcast to it."""
    return (current - setpoint) / setpoint


def change_rate(current: Array, setpoint: Array, step: int, hz: float) -> Array:
    """r in 1/s (n, t - step, 3): only where both time steps lie in the window."""
    return (current[:, step:] - current[:, :-step]) * (hz / step) / setpoint


def arc_resistance(current: Array, setpoint: Array) -> Array:
    """rho (n, t, 3); infinite without current."""
    return setpoint / current


def longest_run(flags: Array) -> Array:
    """(n, t, 3) bool -> (n, 3): the most time steps in a row that are True."""
    index = np.arange(1, flags.shape[1] + 1)[:, None]
    last_false = np.maximum.accumulate(np.where(flags, 0, index), axis=1)
    return (index - last_false).max(axis=1)


def deviations(current: Array, setpoint: Array, step: int, hz: float) -> tuple[Array, Array, Array]:
    """|e|, |r|, |rho - 1| of windows (n, t, 3)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (
            np.abs(tracking_error(current, setpoint)),
            np.abs(change_rate(current, setpoint, step, hz)),
            np.abs(arc_resistance(current, setpoint) - 1),
        )


def exceedance(rule: int, deviation: Array, amplitude: float, phases: int) -> Array:
    """(n,): time steps by which a rule is met in `phases` phases at once: the longest run (R1), or all (R2, R3)."""
    flags = deviation > amplitude
    counts = longest_run(flags) if rule == 0 else flags.sum(axis=1)
    return np.sort(counts, axis=1)[:, 3 - phases]


def time_steps(rule: int, duration: float, width: int, hz: float) -> int:
    """A duration in time steps, rounded up; a duration that is met exactly fires."""
    return math.ceil((duration * hz if rule == 0 else duration * width) - 1e-4)


def margins(current: Array, setpoint: Array, rules: Rules) -> Array:
    """(n, 3): by how much of the window each rule fires (above 0) or fails (below 0), never 0."""
    result = []
    for rule, deviation in enumerate(deviations(current, setpoint, rules.rate_step, rules.current_hz)):
        width = deviation.shape[1]
        need = time_steps(rule, rules.duration[rule], width, rules.current_hz)
        met = exceedance(rule, deviation, rules.amplitude[rule], rules.phases)
        result.append((met - need + 0.5) / width)
    return np.stack(result, axis=1)


def youden_by_need(counts: Array, labels: Array, fired: Array, width: int) -> Array:
    """(width + 2,): TPR - FPR of a rule at each need, beside what has `fired`.

    It fires from need = 0, 1, ... width + 1 time steps.
    """
    index = np.where(fired, width + 1, counts)
    total = []
    for wanted in (True, False):
        histogram = np.bincount(index[labels == wanted], minlength=width + 2)
        total.append(histogram[::-1].cumsum()[::-1] / histogram.sum())
    return total[0] - total[1]


def amplitudes(deviation: Array) -> Array:
    """Thresholds to try, float32 as they are kept."""
    finite = deviation[np.isfinite(deviation)]
    top = np.quantile(finite, TOP_QUANTILE) if finite.size else 1.0
    return (top * np.arange(1, AMPLITUDES + 1) / AMPLITUDES).astype(np.float32)


def climb(
    counts: Sequence[Sequence[Array]], labels: Array, widths: Sequence[int], order: Sequence[int]
) -> tuple[float, list[tuple[int, int]]]:
    """From rules that never fire, improve one after the other in `order`.

    Returns the Youden index, and each rule's level and time steps. counts: of each rule and level, (n,).
    """
    chosen = [(0, width + 1) for width in widths]
    best = 0.0
    for _ in range(MAX_SWEEPS):
        before = best
        for rule in order:
            one, other = (counts[k][chosen[k][0]] >= chosen[k][1] for k in range(3) if k != rule)
            for level, count in enumerate(counts[rule]):
                youden = youden_by_need(count, labels, one | other, widths[rule])
                plateau = np.flatnonzero(youden == youden.max())
                need = int(plateau[len(plateau) // 2])  # its middle: as far from either kind as can be
                if youden[need] > best + 1e-12:
                    best, chosen[rule] = float(youden[need]), (level, need)
        if best == before:
            break
    return best, chosen


def search(current: Array, labels: Array, setpoint: Array, config: ExpertConfig) -> Rules:
    """Thresholds with the largest Youden index on windows (n, t, 3) and labels (n,) bool of both kinds.

    A coordinate search: each rule in turn, over its amplitudes and all durations, until none improves;
    the best of all six orders. Ties keep what was found first.
    """
    step, hz = config.rate_step, config.current_hz
    found = deviations(current, setpoint, step, hz)
    widths = [deviation.shape[1] for deviation in found]
    levels = [amplitudes(deviation) for deviation in found]
    counts = [
        [exceedance(rule, found[rule], float(level), config.phases) for level in levels[rule]]
        for rule in range(3)
    ]
    best, chosen = -1.0, [(0, 0)] * 3  # of each rule: which level, how many time steps
    for order in permutations(range(3)):
        youden, found_here = climb(counts, labels, widths, order)
        if youden > best:
            best, chosen = youden, found_here
    need_1, need_2, need_3 = (need for _, need in chosen)
    level_1, level_2, level_3 = (float(levels[rule][chosen[rule][0]]) for rule in range(3))
    return Rules(
        amplitude=(level_1, level_2, level_3),
        duration=(need_1 / hz, need_2 / widths[1], need_3 / widths[2]),
        phases=config.phases,
        rate_step=step,
        current_hz=hz,
    )


class Expert(Model):
    """Rules with their thresholds. Before `fit` these are round numbers of no particular furnace."""

    setpoint: Tensor
    amplitude: Tensor
    duration: Tensor

    def __init__(self, config: ExpertConfig) -> None:
        super().__init__(modality="current", dense=False, raw_input=True)
        self.config = config
        self.register_buffer("setpoint", torch.full((3,), 8000.0))
        self.register_buffer("amplitude", torch.tensor([0.15, 0.05, 0.15]))
        self.register_buffer("duration", torch.tensor([30.0, 0.3, 0.5]))

    @property
    def rules(self) -> Rules:
        first, second, third = self.amplitude.tolist()
        seconds, rate_share, resistance_share = self.duration.tolist()
        return Rules(
            amplitude=(first, second, third),
            duration=(seconds, rate_share, resistance_share),
            phases=self.config.phases,
            rate_step=self.config.rate_step,
            current_hz=self.config.current_hz,
        )

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (None, 3), what="expert: current")
        if current.shape[1] <= self.config.rate_step:
            raise InputError(
                f"expert: expected more than {self.config.rate_step} samples of current, got {current.shape[1]}"
            )
        whole = current.detach().cpu().double().numpy()
        setpoint = self._setpoint(whole)
        score = margins(whole[:, -self.config.window :], setpoint, self.rules).max(axis=1)
        column = torch.as_tensor(score, device=current.device).to(self.input_norm.like.dtype)
        return Output(torch.stack([-column, column], 1))

    def _setpoint(self, whole: Array) -> Array:
        if self.config.setpoint == "window":
            return np.median(whole, axis=1, keepdims=True)
        return self.setpoint.cpu().double().numpy()

    def fit(self, data: FitData) -> None:
        windows, setpoints, labels = self._read(data.train)
        if labels.all() or not labels.any():
            kind = "abnormal" if labels.all() else "normal"
            raise InputError(
                f"expert: expected normal and abnormal training samples, got {len(labels)} {kind} ones only"
            )
        if self.config.setpoint == "train":
            median = np.median(windows[~labels, -1], axis=0)
            if not (median > 0).all():
                raise InputError(
                    f"expert: expected normal training currents above 0 A, got a median of {median}"
                )
            self.setpoint.copy_(torch.as_tensor(median))
            setpoints = self.setpoint.cpu().double().numpy()
        pick = np.unique(np.linspace(0, len(labels) - 1, self.config.max_windows).round().astype(int))
        if self.config.setpoint == "window":
            setpoints = setpoints[pick]
        rules = search(windows[pick], labels[pick], setpoints, self.config)
        self.amplitude.copy_(torch.tensor(rules.amplitude))
        self.duration.copy_(torch.tensor(rules.duration))

    def _read(self, batches: Iterable[Batch]) -> tuple[Array, Array, Array]:
        """Windows (n, W, 3), their own medians (n, 1, 3) and labels (n,) bool.

        A window that repeats its predecessor, as those of neighbouring frames do, is read once.
        """
        windows: list[Array] = []
        setpoints: list[Array] = []
        labels: list[int] = []
        for batch in batches:
            for whole, label in zip(
                batch["current"].double().numpy(), batch["class_label"].tolist(), strict=True
            ):
                window = whole[-self.config.window :]
                if label > 1 or (labels and labels[-1] == label and np.array_equal(windows[-1], window)):
                    continue
                windows.append(window.copy())
                setpoints.append(np.median(whole, axis=0, keepdims=True))
                labels.append(label)
        if not labels:
            raise InputError("expert: expected labelled training samples, got none")
        return np.stack(windows), np.stack(setpoints), np.array(labels, dtype=bool)


REGISTRATION = Registration(
    name="expert",
    title="Expert system",
    modality="current",
    dense=False,
    config=ExpertConfig,
    build=Expert,
    tiny={"window": 24},
    training="fitted",
    no_onnx="its rules count and sort time steps in NumPy, nothing of it is a network",
    reinterpretation=True,
    source="Wu et al., IEEE TIE 62(3):1703-1715, 2015 (abstract only)",
    provenance={
        "tracking error, change rate and duration as features, rules": "paper (abstract)",
        "arc resistance as a feature": "FmFormer paper",
        "bodies, signs and thresholds of the rules": "choice",
        "set point (median of normal training current)": "choice",
        "search of thresholds by Youden's index": "choice",
    },
)
