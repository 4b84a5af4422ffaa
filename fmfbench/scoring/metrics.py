"""The five official metrics, from exact integer counts.

FDR is the paper's *false detection rate*, FP / (FP + TN): elsewhere the false positive rate, not the
false discovery rate. MDR is its *missed detection rate*, FN / (FN + TP): one minus recall.
"""

from __future__ import annotations

from fmfbench.scoring.counts import Confusion

__all__ = ["METRIC_NAMES", "METRIC_TITLES", "five_metrics", "official_metrics"]

METRIC_NAMES = ("accuracy", "f1", "fdr", "mdr", "miou")
METRIC_TITLES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "fdr": "FDR = FP/(FP+TN)",
    "mdr": "MDR = FN/(FN+TP)",
    "miou": "mIoU",
}

_OFFICIAL_RATE_EPSILON = 1e-6
_OFFICIAL_F1_EPSILON = 1e-5
_OFFICIAL_IOU_EPSILON = 1e-5


def five_metrics(
    frame: Confusion, pixel: Confusion | None, no_pixels: str = "no mask"
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The official five and, for each that is undefined, why.

    Args:
        frame: counts over the samples.
        pixel: counts pooled over all pixels of all samples, or None where masks are not to be had.
        no_pixels: the reason to give for mIoU when `pixel` is None.

    Returns:
        (values, reasons): a value is None exactly when its denominator is 0 and then has a reason.
        F1 = 2 TP / (2 TP + FP + FN); mIoU is the mean of TN/(TN+FP+FN) and TP/(TP+FP+FN) of the pixels.
        No smoothing constant anywhere: each quotient of integers is rounded once.
    """
    quotients = {
        "accuracy": (frame.tn + frame.tp, frame.total, "no samples"),
        "f1": (2 * frame.tp, 2 * frame.tp + frame.fp + frame.fn, "no sample is or is called abnormal"),
        "fdr": (frame.fp, frame.fp + frame.tn, "no sample is normal"),
        "mdr": (frame.fn, frame.fn + frame.tp, "no sample is abnormal"),
    }
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name, (numerator, denominator, reason) in quotients.items():
        values[name] = numerator / denominator if denominator else None
        if not denominator:
            reasons[name] = reason
    values["miou"] = None
    if pixel is None:
        reasons["miou"] = no_pixels
        return values, reasons
    normal_union = pixel.tn + pixel.fp + pixel.fn
    abnormal_union = pixel.tp + pixel.fp + pixel.fn
    if normal_union and abnormal_union:
        values["miou"] = (pixel.tn / normal_union + pixel.tp / abnormal_union) / 2
    else:
        absent = "abnormal" if normal_union else "normal" if abnormal_union else "scored"
        reasons["miou"] = f"no pixel is {absent} in labels or predictions"
    return values, reasons


def official_metrics(frame: Confusion, pixel: Confusion | None) -> dict[str, float | None]:
    """The five with the smoothing constants of the authors' released evaluation code, to match its numbers.

    With e = 1e-6: accuracy = (TP+TN)/(N+e), p = TP/(TP+FP+e), r = TP/(TP+FN+e), F1 = 2pr/(p+r+1e-5),
    FDR = FP/(FP+TN+e), MDR = FN/(FN+TP+e); mIoU = mean over both classes of I/(U+1e-5).
    So a perfect score stays below 1, an absent class scores 0, and without positives F1 and MDR read 0.
    mIoU is None only where there are no masks.
    """
    e = _OFFICIAL_RATE_EPSILON
    precision = frame.tp / (frame.tp + frame.fp + e)
    recall = frame.tp / (frame.tp + frame.fn + e)
    miou = None
    if pixel is not None:
        wrong = pixel.fp + pixel.fn
        miou = sum(same / (same + wrong + _OFFICIAL_IOU_EPSILON) for same in (pixel.tn, pixel.tp)) / 2
    return {
        "accuracy": (frame.tp + frame.tn) / (frame.total + e),
        "f1": 2 * precision * recall / (precision + recall + _OFFICIAL_F1_EPSILON),
        "fdr": frame.fp / (frame.fp + frame.tn + e),
        "mdr": frame.fn / (frame.fn + frame.tp + e),
        "miou": miou,
    }
