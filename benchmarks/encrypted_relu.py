#!/usr/bin/env python3
"""ReLU and 2x2 max-pooling on encrypted values, with exported tables (CKKS, DESILO FHE).

    python3 -m venv .venv && .venv/bin/pip install -r benchmarks/requirements-encrypted.txt
    .venv/bin/python benchmarks/encrypted_relu.py
    .venv/bin/python benchmarks/encrypted_relu.py --policy policy.json --site layer1.1.relu1

For each table in benchmarks/tables: the largest error against max(x, 0) in units of B, beside the proven bounds, without
and with outputs disturbed by the margin of the table; the largest difference to the same composition in float64; the levels used, beside our depth; seconds. Inputs are B times
values that cover [-1, 1] evenly and, in half of the slots, the neighbourhood of 0, where the error is largest. They are
encrypted in units of B, as a network would hold them with 1/B folded into its weights.

With `--policy`, a file that `infer calibrate --family fitted` wrote: the fitted polynomial of one activation beside the
tables, all with the inputs that this activation saw. They are drawn from the quantiles in the file. The fitted polynomial
is for the interval of the site, the tables are for [-B, B] around it. Errors are in units of the inputs: largest, and root mean
square.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import sys
import time
from pathlib import Path

import desilofhe
import numpy as np
from numpy.polynomial.chebyshev import chebval

TABLES = Path(__file__).parent / "tables"


def load(name):
    spec = importlib.util.spec_from_file_location(name, TABLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_sign(table, x):
    for component in table.SIGN_COMPONENTS:
        x = chebval(x, component)
    return x


def inputs(slots):
    """Values of [-1, 1], half of them near 0."""
    even = np.linspace(-1, 1, slots // 2)
    near = 4e-3 * np.linspace(-1, 1, slots - slots // 2)
    return np.concatenate([even, near])


class Encrypted:
    def __init__(self, max_level, threads):
        self.engine = desilofhe.Engine(max_level=max_level, mode="cpu", thread_count=threads)
        self.secret_key = self.engine.create_secret_key()
        self.public_key = self.engine.create_public_key(self.secret_key)
        self.relinearization_key = self.engine.create_relinearization_key(self.secret_key)

    def run(self, function, *values):
        """The decrypted result, levels used and seconds."""
        ciphertexts = [self.engine.encrypt(x, self.public_key) for x in values]
        before = ciphertexts[0].level
        start = time.perf_counter()
        result = function(self.engine, *ciphertexts, self.relinearization_key)
        seconds = time.perf_counter() - start
        decrypted = np.real(self.engine.decrypt(result, self.secret_key))[: len(values[0])]
        return decrypted, before - result.level, seconds


def relu_row(name, bound, threads):
    table = load(name)
    # Engines for Chebyshev series may take a level more a component.
    encrypted = Encrypted(table.RELU_DEPTH + len(table.SIGN_COMPONENTS) + 1, threads)
    x = inputs(encrypted.engine.slot_count)
    found, levels, seconds = encrypted.run(table.relu, x)
    error = np.max(np.abs(found - np.maximum(x, 0)))
    difference = np.max(np.abs(found - x * (1 + plain_sign(table, x)) / 2))
    print(
        f"| ReLU | {name} | {error:.3e} | {table.RELU_ERROR:.3e} | {table.RELU_ERROR_DISTURBED:.3e} | {difference:.1e} | {bound * error:.2e} |"
        f" {levels} | {table.RELU_DEPTH} | {seconds:.1f} |",
        flush=True,
    )


def maximum(table):
    def function(engine, a, b, key):
        """(a + b + (a - b) sign(a - b)) / 2."""
        difference = engine.subtract(a, b)
        half = engine.multiply(difference, 0.5)
        product = engine.multiply(half, table.sign(engine, difference, key), key)
        return engine.add(product, engine.multiply(engine.add(a, b), 0.5))

    return function


def max_pool_row(name, alpha, bound, threads):
    """max(max(a, b), max(c, d)) of values x that become c x + 1/2 in [0, 1]."""
    table = load(name)
    encrypted = Encrypted(2 * (table.RELU_DEPTH + len(table.SIGN_COMPONENTS) + 1), threads)
    slots = encrypted.engine.slot_count
    scale = (1 - 4 * 2.0**-alpha) / 2
    x = np.random.default_rng(0).uniform(-1, 1, (4, slots))
    # Half of the windows hold values that are nearly equal.
    x[1:, slots // 2 :] = np.clip(x[0, slots // 2 :] + 4e-3 * x[1:, slots // 2 :], -1, 1)
    two = maximum(table)

    def function(engine, a, b, c, d, key):
        return two(engine, two(engine, a, b, key), two(engine, c, d, key), key)

    def plain(a, b):
        return (a + b + (a - b) * plain_sign(table, a - b)) / 2

    scaled = scale * x + 0.5
    found, levels, seconds = encrypted.run(function, *scaled)
    error = np.max(np.abs((found - 0.5) / scale - x.max(axis=0)))
    expected = plain(plain(scaled[0], scaled[1]), plain(scaled[2], scaled[3]))
    difference = np.max(np.abs(found - expected)) / scale
    # Two rounds, each off by the error of ReLU; 1/scale brings them back.
    proven, disturbed = (2 * e / scale for e in (table.RELU_ERROR, table.RELU_ERROR_DISTURBED))
    print(
        f"| max-pooling 2×2 | {name} | {error:.3e} | {proven:.3e} | {disturbed:.3e} | {difference:.1e} | {bound * error:.2e} |"
        f" {levels} | {2 * table.RELU_DEPTH} | {seconds:.1f} |",
        flush=True,
    )


def inputs_of_site(summary, count):
    """Numbers with the quantiles of a site's inputs, evenly spread between two of them."""
    percents = [0.0, *map(float, summary["quantiles"]), 100.0]
    values = [summary["min"], *summary["quantiles"].values(), summary["max"]]
    order = np.argsort(percents)
    chance = np.random.default_rng(0).uniform(0, 100, count)
    return np.interp(chance, np.array(percents)[order], np.array(values)[order])


def site_rows(path, name, threads):
    """The fitted polynomial of a site, and each table on [-B, B], for what the site saw."""
    file = json.loads(Path(path).read_text())
    policy = file["policy"]["sites"].get(name)
    if policy is None or policy["method"] != "fitted":
        sites = [site for site, policy in file["policy"]["sites"].items() if policy["method"] == "fitted"]
        sys.exit(f"error: {path} has no fitted polynomial for {name}; it has some for: {', '.join(sites) or 'none'}")
    summary = next(site for site in file["sites"] if site["name"] == name)
    (low, high), coefficients = policy["interval"], policy["coefficients"]
    center, radius, bound = (low + high) / 2, (high - low) / 2, max(-low, high)
    degree = len(coefficients) - 1
    # The plan's levels, and one more that an engine may take for a Chebyshev series.
    depth = degree.bit_length()

    def fitted(engine, x, key):
        return engine.evaluate_chebyshev_polynomial(x, coefficients, key)

    rows = [(f"fitted, degree {degree}", depth, 1, center, radius, lambda z: chebval(z, coefficients), fitted, 1.0)]
    for table_name in sorted(path.stem for path in TABLES.glob("*.py")):
        table = load(table_name)
        rows.append(
            (table_name, table.RELU_DEPTH, len(table.SIGN_COMPONENTS), 0.0, bound,
             lambda z, table=table: z * (1 + plain_sign(table, z)) / 2, table.relu, bound)
        )
    print(f"{name} on [{low:.2f}, {high:.2f}]\n")
    print("| polynomials | largest error | root mean square | to float64 | levels | our depth | seconds |")
    print("|---|---|---|---|---|---|---|")
    for label, depth, components, middle, unit, plain, function, scale in rows:
        encrypted = Encrypted(depth + components + 1, threads)
        x = inputs_of_site(summary, encrypted.engine.slot_count)
        z = (x - middle) / unit
        found, levels, seconds = encrypted.run(function, z)
        error = scale * found - np.maximum(x, 0)
        difference = np.max(np.abs(found - plain(z))) * scale
        print(
            f"| {label} | {np.max(np.abs(error)):.2e} | {np.sqrt(np.mean(error**2)):.2e} | {difference:.1e} |"
            f" {levels} | {depth} | {seconds:.1f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description="ReLU and max-pooling on encrypted values")
    parser.add_argument("--bound", type=float, default=20.0, help="B, only to show errors in units of the input")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--policy", help="a policy file with fitted polynomials; needs --site")
    parser.add_argument("--site", help="the activation of --policy")
    parser.add_argument("tables", nargs="*", help="names in benchmarks/tables; all and the max-pooling if none")
    args = parser.parse_args()
    if bool(args.policy) != bool(args.site):
        parser.error("--policy and --site go together")
    known = sorted(path.stem for path in TABLES.glob("*.py"))
    if unknown := sorted(set(args.tables) - set(known)):
        sys.exit(f"error: no table {', '.join(unknown)}; known are: {', '.join(known)}")
    version = importlib.metadata.version("desilofhe")
    print(f"desilofhe {version}, Python {platform.python_version()}, {args.threads} threads, B = {args.bound:g}\n")
    if args.policy:
        site_rows(args.policy, args.site, args.threads)
        return
    print("| function | table | error / B | proven / B | disturbed / B | to float64 / B | error | levels | our depth | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.tables or known:
        relu_row(name, args.bound, args.threads)
    if not args.tables:
        max_pool_row("published_07", 7, args.bound, args.threads)


if __name__ == "__main__":
    main()
