#!/usr/bin/env python3
"""Runs the program of a plan on real ciphertexts, with DESILO FHE.

    python3 -m venv .venv && .venv/bin/pip install -r benchmarks/requirements-encrypted.txt
    cargo run -p infer -- plan cifar10 resnet20 --policy policy.json --engine desilofhe --output run/ --simulate 2
    .venv/bin/python engines/run_desilofhe.py keygen run/ keys/
    .venv/bin/python engines/run_desilofhe.py encrypt run/ keys/ --images run/images.safetensors
    .venv/bin/python engines/run_desilofhe.py evaluate run/ keys/
    .venv/bin/python engines/run_desilofhe.py decrypt run/ keys/

`keygen`, `encrypt` and `decrypt` are what the owner of the images does, `evaluate` is what the server does. It opens no
secret key: move keys/secret away, and it still runs. All that is clever happened in the plan: this executes one instruction after
the other and frees each value after its last use. Program and plaintext vectors are JSON and safetensors, and what they
claim is checked against the sizes of the files.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

VERSION = 1
#: Operations with one operand, and with two.
ONE = {"add_constant", "multiply_constant", "add_plain", "multiply_plain", "rescale", "drop", "rotate", "rotate_hoisted",
       "bootstrap"}
TWO = {"add", "subtract", "multiply"}
#: Of the engine's largest ring.
MOST_LEVELS = 17


def fail(message):
    sys.exit(f"error: {message}")


class Safetensors:
    """The tensors of a file, read when they are asked for. Only float64."""

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file():
            fail(f"{path}: there is no such file")
        size = self.path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                fail(f"{path}: the header has {length} bytes, the file {size}")
            self.header = json.loads(file.read(length))
        self.header.pop("__metadata__", None)
        self.start, self.size = 8 + length, size

    def __getitem__(self, name):
        if name not in self.header:
            fail(f"{self.path}: there is no tensor {name}")
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        count = int(np.prod(entry["shape"], dtype=object))
        if entry["dtype"] != "F64" or end - begin != 8 * count or self.start + end > self.size or begin < 0:
            fail(f"{self.path}: {name} is not {entry['shape']} numbers of float64 within the file")
        data = np.memmap(self.path, np.float64, "r", self.start + begin, count) if count else np.zeros(0)
        return data.reshape(entry["shape"])


class Program:
    """A plan's program with its plaintext vectors."""

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "program.json"
        if not path.is_file():
            fail(f"{path}: there is no such file; `infer plan … --output {folder}` writes one")
        data = json.loads(path.read_text())
        if data.get("version") != VERSION:
            fail(f"{path} has version {data.get('version')}, but this program reads {VERSION}")
        self.slots, self.lanes = data["packing"]["slots"], data["packing"]["lanes"]
        self.positions = self.slots // self.lanes
        self.input, self.output = data["input"], data["output"]
        self.scale = data["output_scale"]
        self.results, self.layers, self.instructions = data["results"], data["layers"], data["instructions"]
        self.last_use = list(range(len(self.instructions)))
        for number, instruction in enumerate(self.instructions):
            for operand in self.operands(instruction):
                if not 0 <= operand < number:
                    fail(f"{path}: instruction {number} takes value {operand}, which is not there yet")
                self.last_use[operand] = number
        for result in self.results:
            self.last_use[result] = len(self.instructions)
        self.files = {}

    @staticmethod
    def operands(instruction):
        op = instruction["op"]
        if op in TWO:
            return [instruction["a"], instruction["b"]]
        return [instruction["a"]] if op in ONE else []

    def plain(self, plain):
        """A plaintext vector, slot by slot."""
        layer = plain["layer"]
        if layer not in self.files:
            self.files = {layer: Safetensors(self.folder / f"plaintexts_{layer:04}.safetensors")}
        block, product = plain["block"], plain["product"]
        vector = self.files[layer][f"sums.{block}" if product is None else f"products.{block}"]
        if product is not None:
            vector = vector[product]
        if vector.shape != (self.positions,):
            fail(f"layer {layer}: a vector has the shape {vector.shape}, not {(self.positions,)}")
        return np.repeat(vector, self.lanes)

    def places(self, layout):
        """Ciphertext and position of each number of a layout, channel by channel; -1 where there is none."""
        channels, height, width = layout["shape"]
        rows = np.arange(height)[:, None] * layout["row_stride"]
        pixels = (rows + np.arange(width) * layout["column_stride"]).ravel()
        address = np.concatenate([np.full(pixels.shape, -1) if base is None else base + pixels for base in layout["bases"]])
        return address // self.positions, address % self.positions, address >= 0

    def pack(self, images):
        """The slots of the input's ciphertexts for up to as many images as share them."""
        ciphertext, position, there = self.places(self.input)
        count = self.input["ciphertexts"]
        slots = np.zeros((count, self.positions, self.lanes))
        for lane, image in enumerate(images):
            slots[ciphertext[there], position[there], lane] = image[there]
        period = self.input["period"]
        for start in range(period, self.positions, period):
            slots[:, start:start + period] = slots[:, :period]
        return slots.reshape(count, self.slots)

    def unpack(self, slots, images):
        """The results of as many images, from the slots of the output's ciphertexts."""
        ciphertext, position, there = self.places(self.output)
        pixels = len(there) // self.output["shape"][0]
        factor, summand = np.repeat(np.array(self.scale), pixels, axis=0).T
        slots = np.asarray(slots).reshape(-1, self.positions, self.lanes)
        found = np.where(there[:, None], slots[ciphertext, position], 0.0) * factor[:, None] + summand[:, None]
        return found.T[:images]


class Float64:
    """Executes the same instructions on plain numbers."""

    name = "float64"

    def rotate(self, x, by):
        return np.roll(x, -by)

    def add(self, a, b):
        return a + b

    def subtract(self, a, b):
        return a - b

    def multiply(self, a, b):
        return a * b

    add_plain = add_constant = add
    multiply_plain = multiply_constant = multiply

    def drop(self, a, level):
        return a

    def bootstrap(self, a):
        return a

    def check(self, value, number, instruction):
        pass


class Desilo:
    """The engine of DESILO FHE. It rescales within products, so that `rescale` does nothing."""

    def __init__(self, slots, bootstraps, levels, threads, device):
        try:
            import desilofhe
        except ImportError:
            fail("the package desilofhe is missing: pip install -r benchmarks/requirements-encrypted.txt")
        arguments = {"mode": device}
        if device != "cpu":
            arguments["device_id"] = 0
        else:
            arguments["thread_count"] = threads
        if bootstraps:
            self.engine = desilofhe.Engine(bootstrap=True, **arguments)
        else:
            # The engine chooses the ring by the levels: more of them where the program has more slots.
            for level in range(max(levels, 1), MOST_LEVELS + 1):
                self.engine = desilofhe.Engine(max_level=level, **arguments)
                if self.engine.slot_count >= slots:
                    break
        if self.engine.max_level < levels:
            fail(f"the program begins at level {levels}, the engine at {self.engine.max_level}")
        if self.engine.slot_count != slots:
            fail(f"the program is for {slots} slots, the engine has {self.engine.slot_count}")
        self.relinearization = self.conjugation = self.bootstrap_key = None
        #: Keys by the number of slots, and the highest level that they are for.
        self.rotations = {}

    def rotate(self, a, by):
        key = self.rotations.get(by)
        if key is not None and key[1] >= a.level:
            return self.engine.rotate(a, key[0])
        # Either way round, whichever is shorter.
        by = by if by <= self.engine.slot_count // 2 else by - self.engine.slot_count
        return self.engine.rotate(a, self.bootstrap_key, by)

    def add(self, a, b):
        return self.engine.add(a, b)

    def subtract(self, a, b):
        return self.engine.subtract(a, b)

    def multiply(self, a, b):
        return self.engine.multiply(a, b, self.relinearization)

    def add_constant(self, a, b):
        return self.engine.add(a, b)

    def multiply_constant(self, a, b):
        return self.engine.multiply(a, b)

    def add_plain(self, a, vector):
        return self.engine.add(a, self.engine.encode(vector, a.level))

    def multiply_plain(self, a, vector):
        return self.engine.multiply(a, self.engine.encode(vector, a.level))

    def drop(self, a, level):
        return a if a.level == level else self.engine.level_down(a, level)

    def bootstrap(self, a):
        return self.engine.bootstrap(a, self.relinearization, self.conjugation, self.bootstrap_key)

    def check(self, value, number, instruction):
        # Values with two factors of the scale are rescaled here already.
        expected = instruction["level"] - (instruction["scale"] - 1)
        if value.level != expected:
            fail(f"instruction {number} ({instruction['op']}): level {value.level}, but the program says {expected}")


def execute(program, engine, inputs, trace=None, quiet=False):
    """The values of the results. `trace` gets a line for each layer."""
    values, layer, start = {}, None, time.perf_counter()
    began = start
    for number, instruction in enumerate(program.instructions):
        if instruction["layer"] != layer:
            if layer is not None:
                report(program.layers[layer], time.perf_counter() - start, trace, quiet, began)
            layer, start = instruction["layer"], time.perf_counter()
        op, a = instruction["op"], values.get(instruction.get("a"))
        match op:
            case "input":
                value = inputs[instruction["ciphertext"]]
                value = engine.drop(value, instruction["level"])
            case "add" | "subtract" | "multiply":
                value = getattr(engine, op)(a, values[instruction["b"]])
            case "add_constant" | "multiply_constant":
                value = getattr(engine, op)(a, instruction["constant"])
            case "add_plain" | "multiply_plain":
                value = getattr(engine, op)(a, program.plain(instruction["plain"]))
            case "rotate" | "rotate_hoisted":
                value = engine.rotate(a, instruction["by"])
            case "rescale":
                value = a
            case "drop":
                value = engine.drop(a, instruction["level"])
            case "bootstrap":
                value = engine.drop(engine.bootstrap(a), instruction["level"])
            case other:
                fail(f"instruction {number}: there is no operation {other}")
        engine.check(value, number, instruction)
        values[number] = value
        for operand in {*program.operands(instruction)}:
            if program.last_use[operand] == number:
                del values[operand]
    report(program.layers[layer], time.perf_counter() - start, trace, quiet, began)
    return [values[result] for result in program.results]


def report(layer, seconds, trace, quiet, began):
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30
    if trace is not None:
        trace.append({"layer": layer["name"], "kind": layer["kind"], "seconds": round(seconds, 3), "gib": round(resident, 2)})
    if not quiet:
        elapsed = time.perf_counter() - began
        print(f"{elapsed:8.1f} s  {layer['name']:24} {layer['kind']:12} {seconds:7.1f} s  {resident:5.1f} GiB", flush=True)


def write(path, text):
    """Whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def engine_for(program, arguments):
    ops = {instruction["op"] for instruction in program.instructions}
    levels = max(instruction["level"] for instruction in program.instructions)
    return Desilo(program.slots, "bootstrap" in ops, levels, arguments.threads, arguments.device), ops


def key_levels(program):
    """The highest level at which the program rotates by each number of slots."""
    levels = {}
    for instruction in program.instructions:
        if instruction["op"] in ("rotate", "rotate_hoisted"):
            # The engine rescaled already.
            level = instruction["level"] - (instruction["scale"] - 1)
            levels[instruction["by"]] = max(level, levels.get(instruction["by"], 0))
    return levels


def keygen(program, arguments):
    desilo, ops = engine_for(program, arguments)
    engine, keys = desilo.engine, Path(arguments.keys)
    # Nobody else may read a key, from the first byte on.
    os.umask(0o077)
    keys.mkdir(parents=True, exist_ok=True)
    secret = engine.create_secret_key()
    start = time.perf_counter()
    made = {}
    made["public"] = engine.create_public_key(secret)
    made["relinearization"] = engine.create_relinearization_key(secret)
    if "bootstrap" in ops:
        made["conjugation"] = engine.create_conjugation_key(secret)
        made["bootstrap"] = engine.create_bootstrap_key(secret)
    for name, key in made.items():
        getattr(engine, f"write_{name}_key")(key, str(keys / name))
    if "bootstrap" not in ops:
        # The key of bootstrapping rotates, too.
        for by, level in key_levels(program).items():
            engine.write_fixed_rotation_key(engine.create_fixed_rotation_key(secret, by, level), str(keys / f"rotation_{by}"))
    engine.write_secret_key(secret, str(keys / "secret"))
    size = sum(file.stat().st_size for file in keys.iterdir())
    print(f"keys: {size / 2**30:.2f} GiB, {time.perf_counter() - start:.1f} s")


def load(desilo, keys, name):
    path = Path(keys) / name
    if not path.is_file():
        fail(f"{path}: there is no such key; `keygen` makes it")
    kind = name.split("_")[0]
    kind = "fixed_rotation" if kind == "rotation" else kind
    return getattr(desilo.engine, f"read_{kind}_key")(str(path))


def encrypt(program, arguments):
    desilo, _ = engine_for(program, arguments)
    images = Safetensors(arguments.images)["images"]
    count = int(np.prod(program.input["shape"]))
    if images.ndim != 2 or images.shape[1] != count:
        fail(f"{arguments.images}: images of {count} numbers are needed, not {images.shape}")
    if len(images) > program.lanes:
        print(f"note: the first {program.lanes} images, which share the ciphertexts", file=sys.stderr)
    public = load(desilo, arguments.keys, "public")
    for number, slots in enumerate(program.pack(images[: program.lanes])):
        ciphertext = desilo.engine.encrypt(slots, public)
        desilo.engine.write_ciphertext(ciphertext, str(program.folder / f"input_{number}.ciphertext"))
    write(program.folder / "images.json", json.dumps({"images": min(len(images), program.lanes)}))


def evaluate(program, arguments):
    desilo, ops = engine_for(program, arguments)
    engine, keys = desilo.engine, arguments.keys
    if "multiply" in ops or "bootstrap" in ops:
        desilo.relinearization = load(desilo, keys, "relinearization")
    if "bootstrap" in ops:
        desilo.conjugation = load(desilo, keys, "conjugation")
        desilo.bootstrap_key = load(desilo, keys, "bootstrap")
    else:
        desilo.rotations = {by: (load(desilo, keys, f"rotation_{by}"), level) for by, level in key_levels(program).items()}
    inputs = []
    for number in range(program.input["ciphertexts"]):
        path = program.folder / f"input_{number}.ciphertext"
        if not path.is_file():
            fail(f"{path}: there is no such ciphertext; `encrypt` makes it")
        inputs.append(engine.read_ciphertext(str(path)))
    trace, start = [], time.perf_counter()
    for number, result in enumerate(execute(program, desilo, inputs, trace)):
        engine.write_ciphertext(result, str(program.folder / f"output_{number}.ciphertext"))
    write(program.folder / "trace.json", json.dumps(trace, indent=1))
    print(f"evaluated in {time.perf_counter() - start:.1f} s")


def decrypt(program, arguments):
    desilo, _ = engine_for(program, arguments)
    secret = load(desilo, arguments.keys, "secret")
    slots = []
    for number in range(len(program.results)):
        ciphertext = desilo.engine.read_ciphertext(str(program.folder / f"output_{number}.ciphertext"))
        slots.append(np.real(desilo.engine.decrypt(ciphertext, secret)))
    count = json.loads((program.folder / "images.json").read_text())["images"]
    logits = program.unpack(slots, count)
    for number, row in enumerate(logits):
        print(f"image {number}: class {int(np.argmax(row))}, logits {np.array2string(row, precision=4, max_line_width=200)}")
    plain = execute(program, Float64(), program.pack(Safetensors(arguments.images)["images"][:count]), quiet=True) \
        if arguments.images else None
    if plain is not None:
        difference = np.abs(program.unpack(plain, count) - logits).max() / np.abs(logits).max()
        same = int((program.unpack(plain, count).argmax(1) == logits.argmax(1)).sum())
        print(f"beside the same program on plain numbers: logits within {difference:.1e} of the largest, {same} of {count} classes the same")
    write(program.folder / "logits.json", json.dumps(logits.tolist()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["keygen", "encrypt", "evaluate", "decrypt"])
    parser.add_argument("program", help="the folder that `infer plan --output` wrote")
    parser.add_argument("keys", help="the folder with the keys")
    parser.add_argument("--images", help="`images`, [N, numbers], normalised, as safetensors; for decrypt, to compare with")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    arguments = parser.parse_args()
    if arguments.command == "encrypt" and not arguments.images:
        parser.error("encrypt needs --images")
    program = Program(arguments.program)
    {"keygen": keygen, "encrypt": encrypt, "evaluate": evaluate, "decrypt": decrypt}[arguments.command](program, arguments)


if __name__ == "__main__":
    main()
