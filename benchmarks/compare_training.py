#!/usr/bin/env python3
"""Images per second of training beside PyTorch, on one machine, in one run.

For each backbone, in turn and several times over: PyTorch in float32 on the CPU, eager, in its default layout and
channels-last, and this repository's `TrainableNetwork`, exact and through the approximation. All take the same steps:
forward and backward pass and SGD with Nesterov's momentum, on a batch of 128 random images that stay in memory, with all
of the machine's threads. A run is the median of its steps; the table has the medians of the runs.

    python3 -m venv .venv && .venv/bin/pip install -r benchmarks/requirements.txt
    .venv/bin/python benchmarks/compare_training.py --write docs/performance.md
    .venv/bin/python benchmarks/compare_training.py --backbones resnet20 --runs 3
"""

import argparse
import datetime
import os
import pathlib
import statistics
import subprocess
import sys
import time

import torch
from compare import REPOSITORY, cifar10_network, digits, processor, write_between_markers
from torch.nn import functional as F

WARM_UP = 2


def pytorch(name, steps, batch, channels_last):
    network = cifar10_network(name).train()
    images, labels = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10
    if channels_last:
        network, images = (x.to(memory_format=torch.channels_last) for x in (network, images))
    optimiser = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, weight_decay=5e-3, nesterov=True)
    seconds = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        optimiser.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds[WARM_UP:])


def ours(binary, name, steps, batch, *alpha):
    return float(subprocess.run([binary, name, str(steps), str(batch), *alpha], check=True, stdout=subprocess.PIPE).stdout)


def example():
    """Builds the example and says where it is."""
    subprocess.run(["cargo", "build", "-p", "approx-models", "--example", "training_speed"], cwd=REPOSITORY, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return target / "debug" / "examples" / "training_speed"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet20", "resnet56", "vgg11bn", "vgg16bn"])
    parser.add_argument("--runs", type=int, default=5, help="of each, interleaved")
    parser.add_argument("--steps", type=int, default=8, help="of each run, after two that are not counted")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="write the table between its markers there")
    args = parser.parse_args()
    torch.manual_seed(1)
    binary = example()
    methods = {
        "PyTorch eager": lambda name: pytorch(name, args.steps, args.batch, False),
        "eager, channels-last": lambda name: pytorch(name, args.steps, args.batch, True),
        "ours, exact": lambda name: ours(binary, name, args.steps, args.batch),
        "ours, alpha 14": lambda name: ours(binary, name, args.steps, args.batch, "14"),
    }
    rows = [["backbone", *methods, "exact over eager", "over channels-last", "alpha 14 over eager"]]
    for name in args.backbones:
        runs = {method: [] for method in methods}
        for run in range(args.runs):
            for method, measure in methods.items():
                runs[method].append(measure(name))
                print(f"{name} run {run + 1}: {method}: {runs[method][-1]:.1f} images/s", file=sys.stderr)
        eager, channels_last, exact, approximate = (statistics.median(values) for values in runs.values())
        ratios = (exact / eager, exact / channels_last, approximate / eager)
        rows.append([name, *map(digits, (eager, channels_last, exact, approximate)), *(f"{r:.2f}" for r in ratios)])
    header, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    lines = [header, "|---" * len(rows[0]) + "|", *rest]
    machine = f"{processor()}, {os.cpu_count()} cores, PyTorch {torch.__version__}, {datetime.date.today()}"
    text = "\n".join(lines) + f"\n\n{machine}; images/s, medians of {args.runs} runs of {args.steps} steps.\n"
    print(text)
    if args.write:
        write_between_markers(args.write, "training", text)


if __name__ == "__main__":
    main()
