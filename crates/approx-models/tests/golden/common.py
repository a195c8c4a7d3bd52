"""What the scripts that make golden values share."""

import math
import re
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TABLES = HERE.parents[2] / "minimax-coeffs" / "tables"


def hashed(name, shape):
    """The values of a tensor by its name: README.md."""
    mask = (1 << 64) - 1
    seed = 0xCBF29CE484222325
    for byte in f"dev:{name}".encode():
        seed = ((seed ^ byte) * 0x100000001B3) & mask
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float64) / 2.0**24
    kind = name.split(".")[-1]
    if kind == "input":
        values = 4 * u - 2
    elif kind == "running_var":
        values = 0.75 + 0.5 * u
    elif kind in ("running_mean", "bias"):
        values = 0.1 * (2 * u - 1)
    elif len(shape) == 1:
        values = (0.75 + 0.5 * u) * (0.25 if re.match(r"layer.*bn2\.weight$", name) else 1)
    else:
        values = (2 * u - 1) * math.sqrt(4 / math.prod(shape[1:]))
    return values.astype(np.float32).astype(np.float64).reshape(shape)


class Sign:
    """The published composition, for arrays of NumPy and tensors of PyTorch."""

    def __init__(self, alpha):
        lines = (TABLES / f"alpha_{alpha:02}.txt").read_text().splitlines()
        first, *numbers = [line for line in lines if not line.startswith("#")]
        self.components, numbers = [], [float(number) for number in numbers]
        for degree in map(int, first.split()[1:]):
            self.components.append(numbers[: degree + 1])
            numbers = numbers[degree + 1 :]

    def __call__(self, x):
        for coefficients in self.components:
            square, total = x * x, 0 * x
            for c in reversed(coefficients[1::2]):
                total = total * square + c
            x = x * total
        return x
