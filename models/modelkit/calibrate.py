"""Confidence that can be trusted: a temperature a depth, P(correct) and gain curves, and their error on other pictures.

NumPy only. Depth 0 is the mandatory answer, depth k has k stages added.
"""

import numpy as np

from modelkit.fold import cross_entropy

KNOT_PICTURES = 150
MAX_KNOTS = 14


def temperature(logits, labels):
    """The t in 0.25..4 with the least cross-entropy of softmax(logits / t) (Guo et al. 2017); logits [n, classes]."""
    grid = np.geomspace(0.25, 4.0, 97)
    for _ in range(3):
        losses = [cross_entropy(logits / t, labels) for t in grid]
        best = int(np.argmin(losses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        grid = np.geomspace(low, high, 9)
    return float(grid[len(grid) // 2])


def confidence(logits, t):
    """Largest probability of softmax(logits / t), float32 [n]; logits float [n, classes]."""
    scaled = np.asarray(logits, np.float64) / t
    return (1.0 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)).astype(np.float32)


def monotone(values, weights, rising=True):
    """The monotone sequence nearest to `values` in weighted least squares (pool adjacent violators)."""
    values = np.asarray(values, float) * (1 if rising else -1)
    pools = []
    for value, weight in zip(values, weights, strict=True):
        pools.append([value, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            v, w, n = pools.pop()
            total = pools[-1][1] + w
            pools[-1] = [(pools[-1][0] * pools[-1][1] + v * w) / total, total, pools[-1][2] + n]
    out = np.concatenate([np.full(n, v) for v, _, n in pools])
    return out * (1 if rising else -1)


def curve(x, y, rising=True, bounds=(-1.0, 1.0)):
    """Monotone curve of the mean of y [n] over x [n]: {"x": knots, "y": values}, at least 150 pictures a knot."""
    knots = int(np.clip(len(x) // KNOT_PICTURES, 1, MAX_KNOTS))
    order = np.argsort(x, kind="stable")
    places, means, weights = [], [], []
    for part in np.array_split(order, knots):
        place, mean = float(np.mean(x[part], dtype=np.float64)), float(np.mean(y[part]))
        if places and place <= places[-1] + 1e-4:  # a heap of equal confidences: one knot
            means[-1] = (means[-1] * weights[-1] + mean * len(part)) / (weights[-1] + len(part))
            weights[-1] += len(part)
            continue
        places.append(place)
        means.append(mean)
        weights.append(len(part))
    smooth = np.clip(monotone(means, weights, rising), *bounds)
    return {"x": [round(v, 5) for v in places], "y": [round(float(v), 5) for v in smooth]}


def evaluate(entry, x):
    """Values of a curve at x: linear between knots, flat outside."""
    return np.interp(x, entry["x"], entry["y"])


def calibration_error(predicted, seen, x, bins=10):
    """Mean over equally filled bins of x of |mean predicted - mean seen|, weighted by pictures (ECE, Naeini 2015)."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(np.mean(predicted[part]) - np.mean(seen[part])) * len(part) for part in parts]
    return float(np.sum(gaps) / len(x))


def confidences(logits, temperatures):
    """Float32 [n, depths] from logits float32 [depths, n, classes]."""
    return np.stack([confidence(row, t) for row, t in zip(logits, temperatures, strict=True)], axis=1)


def calibrate(logits, labels, fit):
    """`calibration.json` as a dict, fitted on the first `fit` pictures and its error taken on the rest.

    logits float32 [depths, n, classes] as the integer files give them; labels [n].
    """
    depths = len(logits)
    correct = np.stack([row.argmax(axis=1) == labels for row in logits], axis=1).astype(float)
    warm = [round(temperature(row[:fit], labels[:fit]), 4) for row in logits]
    sure = confidences(logits, warm).astype(np.float64)
    curves, curve_errors = [], []
    for d in range(depths):
        entry = curve(sure[:fit, d], correct[:fit, d], bounds=(0.0, 1.0))
        curves.append(entry)
        rest = sure[fit:, d]
        curve_errors.append(round(calibration_error(evaluate(entry, rest), correct[fit:, d], rest), 5))
    gain, gain_errors = {}, {}
    for d in range(depths - 1):
        row, errors = {}, {}
        for e in range(d + 1, depths):
            change = correct[:, e] - correct[:, d]
            entry = curve(sure[:fit, d], change[:fit], rising=False)
            row[str(e)] = entry
            rest = sure[fit:, d]
            errors[str(e)] = round(calibration_error(evaluate(entry, rest), change[fit:], rest), 5)
        gain[str(d)], gain_errors[str(d)] = row, errors
    return {
        "format": 1,
        "temperature": warm,
        "correct": curves,
        "gain": gain,
        "error": {"correct": curve_errors, "gain": gain_errors},
        "n": {"fit": int(fit), "error": len(labels) - int(fit)},
    }
