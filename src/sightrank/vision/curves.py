"""How right predictions are at every threshold, and whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Every hundredth, which the official Python client looks thresholds up by, and some close to the ends, where most
#: probabilities of a good model are. All concepts have the same, because that client averages their curves.
THRESHOLDS: Floats = np.unique(
    np.concatenate([np.arange(101) / 100, [0.0002, 0.001, 0.002, 0.004], [0.996, 0.998, 0.999, 0.9998]])
).astype(np.float32)

_BINS = 10


def curve(labels: NDArray[np.bool_], probabilities: Floats) -> Floats:
    """[3, thresholds]: false positive rate, true positive rate (recall) and precision, at THRESHOLDS.

    A rate of nothing is 0; the precision of no prediction at all is 1, as curves are drawn by custom. Rates are rounded
    up: the official Python client multiplies them by their total and cuts off, which must give the count again.
    """
    positive = np.sort(probabilities[labels])
    negative = np.sort(probabilities[~labels])
    hits = len(positive) - np.searchsorted(positive, THRESHOLDS, side="left")
    alarms = len(negative) - np.searchsorted(negative, THRESHOLDS, side="left")
    predicted = hits + alarms
    precision = np.where(predicted > 0, hits / np.maximum(predicted, 1), 1.0)
    rates = np.asarray([alarms / max(len(negative), 1), hits / max(len(positive), 1), precision])
    narrow = rates.astype(np.float32)
    return np.where(narrow < rates, np.nextafter(narrow, np.float32(2)), narrow)


def calibration(labels: NDArray[np.bool_], probabilities: Floats) -> NDArray[np.float64]:
    """[3, bins]: of predictions by tenths of probability, their mean, the share that was right, and how many there are.

    Both are 0 where there are none.
    """
    bins = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    some = np.maximum(counts, 1)
    said = np.bincount(bins, weights=probabilities, minlength=_BINS) / some
    true = np.bincount(bins, weights=labels, minlength=_BINS) / some
    return np.stack([said, true, counts.astype(np.float64)])
