#!/usr/bin/env python3
"""Images per second of `infer` beside PyTorch, on one machine, in one run.

For each backbone, in turn and several times over: PyTorch's exact network (eager, eager in channels-last layout, and
with torch.compile), the reference's algorithm (each component of the composition as a sum over explicit powers in
float64), and `infer`, exact and approximate with alpha 14. All have the same random weights and the same random
images, and all of the machine's threads. The table has the medians of the speeds, and of the ratios within a run. For
each set of vector instructions there is one.

With `--device cuda` all of them run on the first GPU, in float32 without TF32, and the program is built with the features
that `--features` names. Then the batches are on the GPU before PyTorch's time begins.

PyTorch is timed with the network alone, on batches that are normalised already. `infer`'s time contains waiting for
images, which a thread of its own decodes, normalises and puts on the GPU meanwhile, and on a CPU its first batch, in a
process that just began.

    python3 -m venv .venv && .venv/bin/pip install -r benchmarks/requirements.txt
    .venv/bin/python benchmarks/compare.py --write docs/performance.md
    .venv/bin/python benchmarks/compare.py --dataset imagenet --write docs/performance.md
    .venv/bin/python benchmarks/compare.py --backbones resnet20 vgg11bn --runs 3 --no-compile
    .venv/bin/python benchmarks/compare.py --device cuda --compile-mode max-autotune --write docs/performance.md
"""

import argparse
import copy
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from unittest import mock

import numpy
import torch
import torchvision_parity
from torch import nn
from torch.nn import functional as F

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
BOUND = 50.0  # of the reference's approximations: it does not matter for the speed

VGG = {
    "vgg11bn": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg13bn": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg16bn": [64, 64, "M", 128, 128, "M"] + [256] * 3 + ["M"] + ([512] * 3 + ["M"]) * 2,
    "vgg19bn": [64, 64, "M", 128, 128, "M"] + [256] * 4 + ["M"] + ([512] * 4 + ["M"]) * 2,
}
RESNET = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}


class Composition:
    """s_alpha as the reference computes it: powers of x for every coefficient, in float64."""

    def __init__(self, alpha, device):
        lines = (REPOSITORY / f"crates/minimax-coeffs/tables/alpha_{alpha:02}.txt").read_text().splitlines()
        degrees, *numbers = [line for line in lines if not line.startswith("#")]
        self.components = []
        for degree in map(int, degrees.split()[1:]):
            coefficients = [float(n) for n in numbers[: degree + 1]]
            self.components.append(torch.tensor(coefficients, dtype=torch.float64, device=device))
            numbers = numbers[degree + 1 :]

    def sign(self, x):
        x = x.double()
        for coefficients in self.components:
            exponents = torch.arange(len(coefficients), dtype=torch.float64, device=x.device)
            x = (x.unsqueeze(-1).pow(exponents) * coefficients).sum(-1)
        return x

    def relu(self, x, bound):
        return (x * (1 + self.sign(x / bound)) / 2).float()

    def max(self, a, b):
        return (a + b + (a - b) * self.sign(a - b)) / 2

    def max_pool(self, x, kernel, stride, padding, output):
        """A tournament within each window; padding counts as zero."""
        c = (1 - 4 * 2.0**-14) / (2 * BOUND)
        # Windows of ceil mode may reach beyond the padding.
        needed = [(size - 1) * stride + kernel - have - padding for size, have in zip(output, x.shape[2:])]
        x = c * F.pad(x.double(), (padding, max(needed[1], 0), padding, max(needed[0], 0))) + 0.5
        height, width = ((size - 1) * stride + 1 for size in output)
        taps = [
            x[:, :, top : top + height : stride, left : left + width : stride]
            for top in range(kernel)
            for left in range(kernel)
        ]
        while len(taps) > 1:
            rest = taps[len(taps) // 2 * 2 :]
            taps = [self.max(a, b) for a, b in zip(taps[::2], taps[1::2])] + rest
        return ((taps[0] - 0.5) / c).float()


class Reference(nn.Module):
    """A network with its activations replaced while it runs."""

    def __init__(self, model, alpha, device):
        super().__init__()
        self.model, self.composition = model, Composition(alpha, device)

    def relu(self, x, inplace=False):
        return self.composition.relu(x, BOUND)

    def max_pool2d(self, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        def size(image):
            room = image + 2 * padding - kernel_size
            steps = room // stride
            if ceil_mode and room % stride > 0 and (steps + 1) * stride < image + padding:
                steps += 1
            return steps + 1

        stride = stride or kernel_size
        return self.composition.max_pool(x, kernel_size, stride, padding, [size(image) for image in x.shape[2:]])

    def forward(self, x):
        with mock.patch.object(F, "relu", self.relu), mock.patch.object(F, "max_pool2d", self.max_pool2d):
            return self.model(x)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.zeros = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x
        if self.stride == 2:
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))
        return F.relu(y + shortcut)


class ResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for stage, outputs in enumerate([16, 32, 64], 1):
            layers = []
            for block in range(blocks):
                layers.append(Block(inputs, outputs, 2 if block == 0 and stage > 1 else 1))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class Vgg(nn.Module):
    def __init__(self, layers):
        super().__init__()
        features, inputs = [], 3
        for outputs in layers:
            if outputs == "M":
                features.append(nn.MaxPool2d(2))
            else:
                features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
        self.features = nn.Sequential(*features)
        self.linear1, self.linear2, self.linear3 = nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 10)

    def forward(self, x):
        x = self.features(x).flatten(1)
        return self.linear3(F.relu(self.linear2(F.relu(self.linear1(x)))))


def cifar10_network(name):
    """Weights keep the size of activations, so that no run spends its time on infinities."""
    torch.manual_seed(1)
    model = ResNet(RESNET[name]) if name in RESNET else Vgg(VGG[name])
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, Block):
            nn.init.constant_(module.bn2.weight, 0.25)
    return model.eval()


def cifar10_images(folder, count, size):
    pixels = numpy.random.default_rng(1).integers(0, 256, (10_000, 3073), dtype=numpy.uint8)
    pixels[:, 0] %= 10
    pixels.tofile(folder / "test_batch.bin")
    return pixels[:count, 1:].reshape(-1, 3, 32, 32)


def imagenet_network(name):
    return torchvision_parity.build(torchvision_parity.NETWORKS[name])


def imagenet_images(folder, count, size):
    """PPM files: exact, and hardly anything to decode."""
    pixels = numpy.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=numpy.uint8)
    (folder / "class").mkdir(parents=True)
    for number, picture in enumerate(pixels):
        file = folder / "class" / f"{number:05}.ppm"
        file.write_bytes(b"P6 %d %d 255\n" % (size, size) + picture.tobytes())
    return pixels.transpose(0, 3, 1, 2)


@dataclasses.dataclass
class Dataset:
    backbones: list
    #: What the table has if nothing else is asked for.
    default: list
    #: The same for a GPU.
    default_cuda: list
    #: For each measurement, at a time, and in the reference's one batch; on a CPU and on a GPU.
    images: dict
    batch: dict
    reference_images: dict
    #: From a name.
    build: object
    #: Writes images where `infer` finds them, and gives them: [N, C, H, W], 8 bits.
    write_images: object
    mean: list
    std: list
    #: Pixels of an image.
    size: object


DATASETS = {
    "cifar10": Dataset(
        backbones=[*RESNET, *VGG], default=["resnet20", "resnet56", "resnet110", "vgg11bn", "vgg16bn"],
        default_cuda=["resnet20", "resnet110", "vgg16bn"],
        images={"cpu": 1024, "cuda": 9984}, batch={"cpu": 128, "cuda": 128}, reference_images={"cpu": 16, "cuda": 128},
        build=cifar10_network, write_images=cifar10_images,
        mean=[0.4914, 0.4822, 0.4465], std=[0.2023, 0.1994, 0.2010], size=lambda name: 32,
    ),
    "imagenet": Dataset(
        backbones=[*torchvision_parity.NETWORKS],
        default=["resnet18", "resnet50", "vgg16bn", "googlenet", "inception_v3"],
        default_cuda=["resnet50", "resnet152", "vgg19bn"],
        images={"cpu": 64, "cuda": 1024}, batch={"cpu": 8, "cuda": 32}, reference_images={"cpu": 1, "cuda": 8},
        build=imagenet_network, write_images=imagenet_images,
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], size=lambda name: 299 if name == "inception_v3" else 224,
    ),
}


def images_per_second(model, batches):
    # What was given to a GPU before is not this model's.
    synchronize = torch.cuda.synchronize if batches[0].is_cuda else lambda: None
    synchronize()
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            model(batch)
    synchronize()
    return sum(map(len, batches)) / (time.perf_counter() - start)


class Infer:
    """The program on one network and its images."""

    def __init__(self, binary, dataset, backbone, size, weights, images, arguments):
        self.report = weights.with_suffix(".json")
        self.command = [binary, dataset, backbone, "--params", weights, "--dataset-path", images]
        self.command += ["--b-relu", "1", "--b-max", "1", "--b-search", "1", "--limit", str(arguments.images)]
        self.command += ["--batch-inf", str(arguments.batch), "--threads", str(arguments.threads)]
        self.command += ["--alpha", "14", "--report", self.report, "--device", arguments.device]
        if dataset == "imagenet":
            self.command += ["--image-size", str(size), "--resize", str(size)]

    def images_per_second(self):
        """Of the exact and of the approximate network, and the vector instructions."""
        done = subprocess.run(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{shlex.join(map(str, self.command))}\n{done.stderr}")
        report = json.loads(self.report.read_text())
        return report["exact"]["images_per_second"], report["approx"]["images_per_second"], report["simd"]


#: Columns of the table.
EAGER, CHANNELS_LAST, COMPILE = "PyTorch eager", "eager, channels-last", "torch.compile"
REFERENCE, EXACT, APPROXIMATE = "reference, approximate", "infer, exact", "infer, approximate"


def measure(binary, name, folder, arguments):
    """The speeds of a backbone in each run by column, and the vector instructions."""
    dataset = DATASETS[arguments.dataset]
    size = dataset.size(name)
    images = folder / f"images{size}"
    images.mkdir()
    pixels = torch.from_numpy(dataset.write_images(images, arguments.images, size).copy())
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (dataset.mean, dataset.std))
    batches = ((pixels.float() / 255 - mean) / std).to(arguments.device).split(arguments.batch)
    channels_last_batches = [batch.to(memory_format=torch.channels_last) for batch in batches]
    few = [batches[0][: dataset.reference_images[arguments.device]]]

    model = dataset.build(name)
    weights = folder / f"{name}.pth"
    torch.save(model.state_dict(), weights)
    infer = Infer(binary, arguments.dataset, name, size, weights, images, arguments)
    model = model.to(arguments.device)
    channels_last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.compiler.reset()
    compiled = None if arguments.no_compile else torch.compile(model, mode=arguments.compile_mode)
    reference = Reference(model, 14, arguments.device) if arguments.reference else None

    speeds = {}
    for run in range(arguments.runs + 1):
        measured = {EAGER: images_per_second(model, batches)}
        measured[CHANNELS_LAST] = images_per_second(channels_last, channels_last_batches)
        if compiled is not None:
            measured[COMPILE] = images_per_second(compiled, batches)
        if reference is not None and run > 0:
            measured[REFERENCE] = images_per_second(reference, few)
        measured[EXACT], measured[APPROXIMATE], simd = infer.images_per_second()
        if run > 0:  # the first one warms up
            for column, speed in measured.items():
                speeds.setdefault(column, []).append(speed)
    return speeds, simd


def digits(value):
    return f"{value:.1f}" if value >= 10 else f"{value:#.3g}"


def ratio(numerators, denominators):
    """The median of the runs' ratios: a run's speeds are measured one after the other, on a machine in the same mood."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def table(rows):
    """Median speeds, and the approximate network's beside each of the others."""
    columns = list(next(iter(rows.values())))
    others = [column for column in columns if column not in (EXACT, APPROXIMATE)]
    lines = ["Images/s:", "", "| backbone | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(digits(statistics.median(row[column])) for column in columns) + " |")
    lines += ["", "`infer`'s approximate network: its speed over the others', its time over the exact one's:", ""]
    lines.append("| backbone | " + " | ".join(f"over {column}" for column in others) + " | time / exact |")
    lines.append("|---" * (len(others) + 2) + "|")
    for name, row in rows.items():
        ratios = [ratio(row[APPROXIMATE], row[column]) for column in others]
        cells = [f"{value:.0f}" if value >= 100 else f"{value:.2f}" for value in ratios]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {ratio(row[EXACT], row[APPROXIMATE]):.2f} |")
    return "\n".join(lines) + "\n"


def processor():
    """As Linux names it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def graphics():
    """The GPU and its driver."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        driver = subprocess.run(query, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return f"{torch.cuda.get_device_name()}, driver {driver}"


def write_between_markers(file, dataset, text):
    begin, end = f"<!-- compare.py {dataset}: begin -->", f"<!-- compare.py {dataset}: end -->"
    document = file.read_text()
    if document.count(begin) != 1 or document.count(end) != 1:
        sys.exit(f"{file} must have {begin} and {end}, each once")
    before, rest = document.split(begin)
    file.write_text(f"{before}{begin}\n{text}{end}{rest.split(end)[1]}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--features", default="cuda,cudnn", help="of infer, with --device cuda [default: cuda,cudnn]")
    parser.add_argument("--program", type=pathlib.Path, help="this `infer`, built before, instead of building it")
    parser.add_argument("--backbones", nargs="+", metavar="NAME", help="[default: five of the data set's]")
    parser.add_argument("--images", type=int, help="for each measurement [default: 1024, ImageNet: 64; CUDA: 9984, 1024]")
    parser.add_argument("--batch", type=int, help="[default: 128, ImageNet: 8; CUDA: 128, 32]")
    parser.add_argument("--runs", type=int, default=5, help="after one to warm up [default: 5]")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="[default: all]")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--compile-mode", default="default", choices=["default", "reduce-overhead", "max-autotune"],
        help="of torch.compile; the last two use CUDA graphs [default: default]",
    )
    parser.add_argument(
        "--reference", action=argparse.BooleanOptionalAction,
        help="the reference's algorithm, on 16 images, for ImageNet on 1; CUDA: 128, 8 [default: not for ImageNet on a CPU]",
    )
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="replace the data set's table in FILE")
    arguments = parser.parse_args()
    dataset = DATASETS[arguments.dataset]
    arguments.backbones = arguments.backbones or (dataset.default_cuda if arguments.device == "cuda" else dataset.default)
    arguments.images = arguments.images or dataset.images[arguments.device]
    arguments.batch = arguments.batch or dataset.batch[arguments.device]
    if arguments.reference is None:
        arguments.reference = arguments.dataset == "cifar10" or arguments.device == "cuda"
    if arguments.program and not arguments.program.is_file():
        parser.error(f"--program {arguments.program}: there is no such file")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU")
    unknown = [name for name in arguments.backbones if name not in dataset.backbones]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(dataset.backbones)}")
    if arguments.images % arguments.batch != 0:
        parser.error(f"{arguments.images} images are no whole batches of {arguments.batch}")
    return arguments


def build(arguments):
    """Builds `infer` and gives its path."""
    command = ["cargo", "build", "-p", "infer", "--message-format", "json"]
    if arguments.device == "cuda":
        command += ["--features", arguments.features]
    messages = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in messages.splitlines()]
    return [a["executable"] for a in artifacts if a.get("executable")][-1]


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    binary = arguments.program or build(arguments)
    rows = {}
    # A build meanwhile must not change what is measured.
    programs = tempfile.TemporaryDirectory()
    binary = shutil.copy(binary, programs.name)
    for name in arguments.backbones:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            rows[name], simd = measure(binary, name, pathlib.Path(folder), arguments)
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    command = shlex.join(["python", "benchmarks/compare.py", *sys.argv[1:]])
    text = f"`{command}`\n\n"
    text += f"{processor()}, {os.cpu_count()} cores, {simd}, {arguments.threads} threads; PyTorch {torch.__version__} "
    text += f"({torch.backends.cpu.get_cpu_capability()}); {datetime.date.today()}. "
    if arguments.device == "cuda":
        text += f"{graphics()}, float32 without TF32, features {arguments.features}. "
    if not arguments.no_compile:
        text += f"torch.compile in mode {arguments.compile_mode}. "
    text += f"Medians of {arguments.runs} runs of {arguments.images} images, batch {arguments.batch}, alpha 14.\n\n"
    text += table(rows)
    print(text)
    if arguments.write:
        processor_or_gpu = simd if arguments.device == "cpu" else "cuda"
        write_between_markers(arguments.write, f"{arguments.dataset} {processor_or_gpu}", text)


if __name__ == "__main__":
    sys.exit(main())
