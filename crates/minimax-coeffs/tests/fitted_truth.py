"""Writes fitted_truth.json: weighted least squares by NumPy, for fitted.rs to be held against.

    python crates/minimax-coeffs/tests/fitted_truth.py > crates/minimax-coeffs/tests/fitted_truth.json

Needs numpy. The problem is that of docs/adr/0063-fitted-polynomials.md: values with weights that sum up to 1, and the floor
on 2,049 evenly spaced places of the interval. It is solved by numpy.linalg.lstsq, which uses a singular value
decomposition, and not the reflections of fitted.rs.
"""

import json

import numpy as np
from numpy.polynomial import chebyshev

FLOOR = 3e-4
PLACES = 2049

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
}


def histogram(rng, count, spread, tail):
    """What a site sees: most values near -1, and a long tail above."""
    values = np.concatenate([rng.normal(-1.0, spread, count), rng.exponential(tail, count // 4)])
    counts, edges = np.histogram(values, 120)
    middles = (edges[:-1] + edges[1:]) / 2
    return [(float(x), int(n)) for x, n in zip(middles, counts) if n > 0]


def fit(function, points, low, high, degree):
    x = np.array([x for x, _ in points] + list(np.linspace(low, high, PLACES)))
    weights = np.array([n for _, n in points], dtype=float)
    weights = np.concatenate([weights / weights.sum(), np.full(PLACES, FLOOR / PLACES)])
    z = (x - (low + high) / 2) / ((high - low) / 2)
    root = np.sqrt(weights)
    matrix = chebyshev.chebvander(z, degree) * root[:, None]
    solution, *_ = np.linalg.lstsq(matrix, function(x) * root, rcond=None)
    return [float(c) for c in solution]


def main():
    rng = np.random.default_rng(17)
    cases = []
    for name, spread, tail in [("relu", 0.7, 1.5), ("relu", 2.0, 0.5), ("silu", 1.0, 1.0)]:
        points = histogram(rng, 4000, spread, tail)
        low, high = points[0][0] - 0.5, points[-1][0] + 1.0
        for degree in (2, 7, 15, 27, 63):
            coefficients = fit(FUNCTIONS[name], points, low, high, degree)
            cases.append({"function": name, "points": points, "interval": [low, high], "coefficients": coefficients})
    print(json.dumps(cases, indent=None, separators=(",", ":")))


if __name__ == "__main__":
    main()
