#!/usr/bin/env python3
"""The 1,797 handwritten digits of scikit-learn as files of MNIST's format, for docs/mnist.md.

    python3 -m venv .venv && .venv/bin/pip install scikit-learn
    .venv/bin/python benchmarks/digits.py datasets/digits

The digits (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998; CC BY 4.0) have 8x8 pixels of 17 levels. They
are enlarged to 24x24 by linear interpolation, with a margin of 2 pixels, and shuffled: 1,297 for training, 500 for
the test.
"""

import struct
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TRAINING = 1297


def enlarged(image):
    centres = (np.arange(24) + 0.5) * 8 / 24 - 0.5
    low = np.clip(np.floor(centres).astype(int), 0, 7)
    high = np.clip(low + 1, 0, 7)
    share = np.clip(centres - low, 0, 1)
    rows = image[low] * (1 - share)[:, None] + image[high] * share[:, None]
    both = rows[:, low] * (1 - share) + rows[:, high] * share
    return np.pad(np.round(both * 255 / 16).astype(np.uint8), 2)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images = np.stack([enlarged(image) for image in digits.images])[order]
    labels = digits.target[order].astype(np.uint8)
    for part, some in (("train", slice(TRAINING)), ("t10k", slice(TRAINING, None))):
        count = len(labels[some])
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images[some].tobytes())
        header = struct.pack(">II", 0x801, count)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels[some].tobytes())


if __name__ == "__main__":
    main()
