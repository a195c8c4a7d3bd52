#!/usr/bin/env python3
"""The interpreter on a program of a few instructions, on real ciphertexts: python engines/test_run_desilofhe.py

With the engine's smallest ring it takes seconds. Where the package desilofhe is not there, all but the first test are skipped.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import run_desilofhe

HERE = Path(__file__).parent
SLOTS = 8192
#: Two images share the ciphertext.
LANES = 2
POSITIONS = SLOTS // LANES
LAYOUT = {
    "shape": [1, 2, 4], "bases": [0], "row_stride": 4, "column_stride": 1, "pitch": 4, "block": 8, "period": POSITIONS,
    "ciphertexts": 1,
}


def safetensors(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        begin = len(data)
        data += np.ascontiguousarray(tensor, dtype=np.float64).tobytes()
        header[name] = {"dtype": "F64", "shape": list(tensor.shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_program(folder):
    """(0.5 x, rotated, plus weights times x) squared, plus a vector, as `infer plan --output` would write it."""
    plain = {"layer": 1, "block": 0}
    instructions = [
        {"op": "input", "ciphertext": 0, "layer": 0, "level": 4, "scale": 1},
        {"op": "drop", "a": 0, "layer": 1, "level": 3, "scale": 1},
        {"op": "multiply_constant", "a": 1, "constant": 0.5, "layer": 1, "level": 3, "scale": 2},
        {"op": "multiply_plain", "a": 1, "plain": {**plain, "product": 0}, "layer": 1, "level": 3, "scale": 2},
        {"op": "rotate", "a": 2, "by": 3 * LANES, "layer": 1, "level": 3, "scale": 2},
        {"op": "add", "a": 4, "b": 3, "layer": 1, "level": 3, "scale": 2},
        {"op": "rescale", "a": 5, "layer": 1, "level": 2, "scale": 1},
        {"op": "add_plain", "a": 6, "plain": {**plain, "product": None}, "layer": 1, "level": 2, "scale": 1},
        {"op": "rotate_hoisted", "a": 7, "by": SLOTS - LANES, "layer": 2, "level": 2, "scale": 1},
        {"op": "subtract", "a": 7, "b": 8, "layer": 2, "level": 2, "scale": 1},
        {"op": "multiply", "a": 9, "b": 7, "layer": 2, "level": 2, "scale": 2},
        {"op": "rescale", "a": 10, "layer": 2, "level": 1, "scale": 1},
        {"op": "add_constant", "a": 11, "constant": -0.25, "layer": 2, "level": 1, "scale": 1},
    ]
    layers = [{"name": name, "kind": kind, "values": [value]} for name, kind, value in
              [("input", "input", 0), ("conv", "linear", 7), ("relu", "polynomial", 12)]]
    program = {
        "version": 1, "packing": {"slots": SLOTS, "lanes": LANES}, "input": LAYOUT, "output": LAYOUT,
        "output_scale": [[2.0, 1.0]], "results": [12], "layers": layers, "instructions": instructions,
    }
    (folder / "program.json").write_text(json.dumps(program))
    random = np.random.default_rng(1)
    products, sums = random.uniform(-1, 1, (1, POSITIONS)), random.uniform(-1, 1, POSITIONS)
    safetensors(folder / "plaintexts_0001.safetensors", {"products.0": products, "sums.0": sums})
    images = random.uniform(-1, 1, (LANES, 8))
    safetensors(folder / "images.safetensors", {"images": images})
    return products[0], sums, images


def expected(weights, sums, image):
    """The same with loops, for one image and the positions that its results lie at."""
    x = np.zeros(POSITIONS)
    x[:8] = image
    y = 0.5 * np.roll(x, -3) + weights * x + sums
    z = (y - np.roll(y, 1)) * y - 0.25
    return 2 * z[:8] + 1


class Interpreter(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.weights, self.sums, self.images = write_program(self.folder)
        self.truth = np.array([expected(self.weights, self.sums, image) for image in self.images])

    def tearDown(self):
        self.temporary.cleanup()

    def run_command(self, command, *more):
        arguments = [sys.executable, HERE / "run_desilofhe.py", command, self.folder, self.folder / "keys", *more]
        return subprocess.run(list(map(str, arguments)), capture_output=True, text=True)

    def succeed(self, command, *more):
        done = self.run_command(command, *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_plain_numbers_give_what_loops_give(self):
        program = run_desilofhe.Program(self.folder)
        results = run_desilofhe.execute(program, run_desilofhe.Float64(), program.pack(self.images), quiet=True)
        np.testing.assert_allclose(program.unpack(results, LANES), self.truth, atol=1e-12)

    @unittest.skipUnless(importlib.util.find_spec("desilofhe"), "the package desilofhe is not there")
    def test_ciphertexts_give_it_too_and_the_server_has_no_secret(self):
        images = ["--images", self.folder / "images.safetensors"]
        self.succeed("keygen")
        keys = self.folder / "keys"
        self.assertEqual({file.stat().st_mode & 0o777 for file in keys.iterdir()}, {0o600})
        self.succeed("encrypt", *images)
        secret = keys.joinpath("secret").rename(self.folder / "elsewhere")
        self.succeed("evaluate")
        missing = self.run_command("decrypt")
        self.assertIn("there is no such key", missing.stderr)
        secret.rename(keys / "secret")
        output = self.succeed("decrypt", *images)
        self.assertIn(f"{LANES} of {LANES} classes the same", output)
        logits = json.loads((self.folder / "logits.json").read_text())
        np.testing.assert_allclose(logits, self.truth, atol=1e-5)
        self.assertEqual([line["layer"] for line in json.loads((self.folder / "trace.json").read_text())],
                         ["input", "conv", "relu"])

    def test_damaged_programs_are_refused_in_a_line(self):
        def damage(change):
            program = json.loads((self.folder / "program.json").read_text())
            change(program)
            (self.folder / "program.json").write_text(json.dumps(program))
            with self.assertRaises(SystemExit) as stop:
                program = run_desilofhe.Program(self.folder)
                run_desilofhe.execute(program, run_desilofhe.Float64(), program.pack(self.images), quiet=True)
            return str(stop.exception)

        self.assertIn("version 7", damage(lambda program: program.update(version=7)))
        write_program(self.folder)
        self.assertIn("takes value 12", damage(lambda program: program["instructions"][5].update(a=12)))
        write_program(self.folder)
        self.assertIn("no operation sqrt", damage(lambda program: program["instructions"][12].update(op="sqrt")))
        write_program(self.folder)
        with open(self.folder / "plaintexts_0001.safetensors", "r+b") as file:
            file.truncate(1000)
        self.assertIn("within the file", damage(lambda program: None))


if __name__ == "__main__":
    unittest.main()
