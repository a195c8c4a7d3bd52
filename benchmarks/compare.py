#!/usr/bin/env python3
"""Images per second of `infer` beside PyTorch, on one machine, in one run.

For each backbone, in turn and several times over: PyTorch's exact network (eager, and with torch.compile), the
reference's algorithm (each component of the composition as a sum over explicit powers in float64), and `infer`, exact
and approximate. All run on the same random images with the same random weights. Prints a table of medians.

    python3 -m venv .venv && .venv/bin/pip install -r benchmarks/requirements.txt
    .venv/bin/python benchmarks/compare.py --backbones resnet20 resnet56 vgg11bn
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
STD = torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1)

VGG = {
    "vgg11bn": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg13bn": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg16bn": [64, 64, "M", 128, 128, "M"] + [256] * 3 + ["M"] + ([512] * 3 + ["M"]) * 2,
    "vgg19bn": [64, 64, "M", 128, 128, "M"] + [256] * 4 + ["M"] + ([512] * 4 + ["M"]) * 2,
}
RESNET = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}


class Composition:
    """s_alpha as the reference computes it: powers of x for every coefficient, in float64."""

    def __init__(self, alpha):
        lines = (REPOSITORY / f"crates/minimax-coeffs/tables/alpha_{alpha:02}.txt").read_text().splitlines()
        degrees, *numbers = [line for line in lines if not line.startswith("#")]
        self.components = []
        for degree in map(int, degrees.split()[1:]):
            self.components.append(torch.tensor([float(n) for n in numbers[: degree + 1]], dtype=torch.float64))
            numbers = numbers[degree + 1 :]

    def sign(self, x):
        x = x.double()
        for coefficients in self.components:
            exponents = torch.arange(len(coefficients), dtype=torch.float64)
            x = (x.unsqueeze(-1).pow(exponents) * coefficients).sum(-1)
        return x

    def relu(self, x, bound):
        return (x * (1 + self.sign(x / bound)) / 2).float()

    def max(self, a, b):
        return (a + b + (a - b) * self.sign(a - b)) / 2

    def max_pool(self, x, bound):
        c = (1 - 4 * 2.0**-14) / (2 * bound)
        x = c * x.double() + 0.5
        top = self.max(x[:, :, ::2, ::2], x[:, :, ::2, 1::2])
        bottom = self.max(x[:, :, 1::2, ::2], x[:, :, 1::2, 1::2])
        return ((self.max(top, bottom) - 0.5) / c).float()


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, relu):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.zeros, self.relu = stride, (outputs - inputs) // 2, relu

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x
        if self.stride == 2:
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))
        return self.relu(y + shortcut)


class ResNet(nn.Module):
    def __init__(self, blocks, relu):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), relu
        inputs = 16
        for stage, outputs in enumerate([16, 32, 64], 1):
            layers = []
            for block in range(blocks):
                layers.append(Block(inputs, outputs, 2 if block == 0 and stage > 1 else 1, relu))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class Function(nn.Module):
    """A function as a module, so that `Sequential` counts it."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Vgg(nn.Module):
    def __init__(self, layers, relu, max_pool):
        super().__init__()
        features, inputs = [], 3
        for outputs in layers:
            if outputs == "M":
                features.append(Function(max_pool))
            else:
                features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), Function(relu)]
                inputs = outputs
        self.features, self.relu = nn.Sequential(*features), relu
        self.linear1, self.linear2, self.linear3 = nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 10)

    def forward(self, x):
        x = self.features(x).flatten(1)
        return self.linear3(self.relu(self.linear2(self.relu(self.linear1(x)))))


def network(name, relu=F.relu, max_pool=lambda x: F.max_pool2d(x, 2)):
    model = ResNet(RESNET[name], relu) if name in RESNET else Vgg(VGG[name], relu, max_pool)
    return model.eval()


def randomise(model):
    """Weights that keep the size of activations, so that no run spends its time on infinities."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, Block):
            nn.init.constant_(module.bn2.weight, 0.25)
    return model.state_dict()


def images_per_second(model, images, batch):
    start = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(images), batch):
            model((images[first : first + batch].float() / 255 - MEAN) / STD)
    return len(images) / (time.perf_counter() - start)


def infer(binary, backbone, folder, count, threads):
    command = [binary, "cifar10", backbone, "--params", folder / f"{backbone}.pt", "--dataset-path", folder]
    command += ["--b-relu", "1", "--b-max", "1", "--b-search", "1", "--limit", str(count)]
    command += ["--threads", str(threads), "--report", folder / "report.json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    report = json.loads((folder / "report.json").read_text())
    return report["exact"]["images_per_second"], report["approx"]["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet20"], choices=[*RESNET, *VGG], metavar="NAME")
    parser.add_argument("--images", type=int, default=1024, help="for each measurement (the reference: 1/32 of it)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    build = ["cargo", "build", "-p", "infer", "--message-format", "json"]
    messages = subprocess.run(build, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in messages.splitlines()]
    binary = [a["executable"] for a in artifacts if a.get("executable")][-1]

    pixels = numpy.random.default_rng(1).integers(0, 256, (10_000, 3073), dtype=numpy.uint8)
    pixels[:, 0] %= 10
    images = torch.from_numpy(pixels[: arguments.images, 1:].copy()).view(-1, 3, 32, 32)
    columns = ["PyTorch eager", "torch.compile", "reference", "infer exact", "infer approximate"]
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, PyTorch {torch.__version__},")
    print(f"{datetime.date.today()}, medians of {arguments.runs}, images/s, batch {arguments.batch}, alpha 14\n")
    print("| backbone |", " | ".join(columns), "| approximate / eager | approximate / exact |")
    print("|---" * (len(columns) + 3) + "|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        pixels.tofile(folder / "test_batch.bin")
        for name in arguments.backbones:
            exact = network(name)
            torch.save(randomise(exact), folder / f"{name}.pt")
            composition = Composition(14)
            # The bound does not matter for the speed.
            reference = network(name, lambda x: composition.relu(x, 50.0), lambda x: composition.max_pool(x, 50.0))
            few = images[: max(1, len(images) // 32)]
            compiled = None if arguments.no_compile else torch.compile(exact)
            speeds = {column: [] for column in columns}
            for run in range(arguments.runs + 1):
                measured = [images_per_second(exact, images, arguments.batch)]
                measured.append(images_per_second(compiled, images, arguments.batch) if compiled else float("nan"))
                measured.append(images_per_second(reference, few, 32))
                measured += infer(binary, name, folder, arguments.images, arguments.threads)
                if run > 0:  # the first one warms up
                    for column, speed in zip(columns, measured):
                        speeds[column].append(speed)
            median = {column: statistics.median(values) for column, values in speeds.items()}
            ratio = median["infer approximate"] / median["PyTorch eager"]
            cost = median["infer approximate"] / median["infer exact"]
            row = " | ".join("" if median[column] != median[column] else f"{median[column]:.1f}" for column in columns)
            print(f"| {name} | {row} | {ratio:.2f} | {cost:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
