#!/usr/bin/env python3
"""How much noise encrypted values get (CKKS, DESILO FHE), to hold the simulation of `infer --noise-bits` against.

    python3 -m venv .venv && .venv/bin/pip install -r benchmarks/requirements-encrypted.txt
    .venv/bin/python benchmarks/encrypted_noise.py --output crates/approx-ops/tests/golden/encrypted_noise.json

Measured are, for each published table in benchmarks/tables and on an engine with the levels that it needs,

- the standard deviation that a rescaling adds: this engine rescales the operands of a product, which leaves an error of
  a times that of b and b times that of a; so it is the spread of the difference to the product of what a and b decrypt
  to, divided by sqrt(a^2 + b^2);
- the spread of ReLU on [-1, 1] against the same polynomials in float64, by parts of the range of |x|, and the largest
  difference.
"""

import argparse
import importlib.metadata
import json
import platform

import numpy as np

from encrypted_relu import Encrypted, load, plain_sign

TABLES = ["published_07", "published_10", "published_14"]
EDGES = [0.0, 0.001, 0.01, 0.1, 0.5, 1.0]


def inputs(slots):
    """Values of [-1, 1], as many in each part."""
    rng = np.random.default_rng(7)
    parts = [rng.uniform(a, b, slots // (len(EDGES) - 1) + 1) for a, b in zip(EDGES, EDGES[1:])]
    x = np.concatenate(parts)[:slots]
    return x * rng.choice([-1.0, 1.0], slots)


def rescaling(encrypted):
    """The spread that a rescaling adds, over several levels."""
    engine, key = encrypted.engine, encrypted.secret_key
    decrypt = lambda c: np.real(engine.decrypt(c, key))
    rng = np.random.default_rng(1)
    uniform = lambda: engine.encrypt(rng.uniform(-1, 1, engine.slot_count), encrypted.public_key)
    value = uniform()
    spreads = []
    for _ in range(6):
        factor = uniform()
        product = engine.multiply(value, factor, encrypted.relinearization_key)
        a, b = decrypt(value), decrypt(factor)
        spreads.append(float(np.std((decrypt(product) - a * b) / np.hypot(a, b))))
        value = engine.add(product, 0.1)
    return spreads


def relu(name, threads):
    table = load(name)
    encrypted = Encrypted(table.RELU_DEPTH + len(table.SIGN_COMPONENTS) + 1, threads)
    x = inputs(encrypted.engine.slot_count)
    found, _, _ = encrypted.run(table.relu, x)
    difference = found - x * (1 + plain_sign(table, x)) / 2
    parts = []
    for a, b in zip(EDGES, EDGES[1:]):
        part = difference[(np.abs(x) >= a) & (np.abs(x) < b)]
        parts.append({"from": a, "to": b, "spread": float(np.std(part)), "largest": float(np.max(np.abs(part)))})
    return {"alpha": int(name.removeprefix("published_")), "rescaling_spreads": rescaling(encrypted), "parts": parts}


def main():
    parser = argparse.ArgumentParser(description="The noise of encrypted values")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", help="write the results here, as JSON")
    args = parser.parse_args()
    results = {
        "engine": f"desilofhe {importlib.metadata.version('desilofhe')}",
        "python": platform.python_version(),
        "relu": [],
    }
    for name in TABLES:
        result = relu(name, args.threads)
        results["relu"].append(result)
        spreads = result["rescaling_spreads"]
        print(f"{name}: a rescaling adds {', '.join(f'{s:.2e}' for s in spreads)} (2^{np.log2(np.mean(spreads)):.2f} in the mean)")
        for part in result["parts"]:
            print("  |x| from {from:g} to {to:g}: standard deviation {spread:.2e}, at most {largest:.2e}".format(**part))
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            file.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
