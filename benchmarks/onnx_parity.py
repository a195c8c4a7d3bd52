"""Holds what is read from ONNX files against ONNX Runtime, for the twenty backbones and networks of torchvision.

    pip install torch torchvision onnx onnxruntime onnxscript
    python3 benchmarks/onnx_parity.py [NETWORK …] [--exporters legacy,dynamo] [--infer]

Each network is exported by both of PyTorch's exporters and computed by ONNX Runtime in float32. Two things are compared
with that, as shares of the largest logit, and must be below 1e-5:

- the graph that cnn-onnx reads, computed in float64 by plain loops (`cargo run -p cnn-onnx --example evaluate`), or
  with --infer the exact logits of `infer onnx`, in float32 on pictures;
- the graph written as an ONNX file again, which onnx.checker checks, in ONNX Runtime.

A small vision transformer must give the one error that lists what cannot be read.
"""

import argparse
import json
import logging
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 1e-5


class BasicBlock(nn.Module):
    """A block of the reference's CIFAR ResNets, with shortcuts without parameters."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.more = (outputs - inputs) // 2

    def forward(self, x):
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more)) if self.more else x
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        stage = lambda inputs, outputs: nn.Sequential(*(
            BasicBlock(inputs if i == 0 else outputs, outputs, 2 if i == 0 and inputs != outputs else 1)
            for i in range(blocks)))
        self.layer1, self.layer2, self.layer3 = stage(16, 16), stage(16, 32), stage(32, 64)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.avg_pool2d(x, x.size()[3])
        return self.linear(x.view(x.size(0), -1))


VGG = {
    "vgg11bn": [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0],
    "vgg13bn": [64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0],
    "vgg16bn": [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0],
    "vgg19bn": [64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0],
}


def cifar_vgg(name):
    layers, inputs = [], 3
    for outputs in VGG[name]:
        if outputs:
            layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        else:
            layers.append(nn.MaxPool2d(2))
    head = [nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def torchvision_model(name):
    options = {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, name)(weights=None, **options)


# The size of the images is the smallest that the exporters and the network allow, since all is computed in float64.
CIFAR = {f"cifar10/resnet{6 * n + 2}": (lambda n=n: CifarResNet(n), 32) for n in (3, 5, 7, 9, 18)}
CIFAR |= {f"cifar10/{name}": (lambda name=name: cifar_vgg(name), 32) for name in VGG}
IMAGENET = {f"imagenet/{name}": (lambda name=name: torchvision_model(name.replace("bn", "_bn")), size) for name, size in [
    ("resnet18", 64), ("resnet34", 64), ("resnet50", 64), ("resnet101", 64), ("resnet152", 64),
    ("vgg11bn", 224), ("vgg13bn", 224), ("vgg16bn", 224), ("vgg19bn", 224), ("googlenet", 64), ("inception_v3", 96)]}
OTHERS = {name: (lambda name=name: torchvision_model(name), size) for name, size in [
    ("mobilenet_v2", 64), ("mobilenet_v3_large", 64), ("efficientnet_b0", 64), ("densenet121", 64),
    ("squeezenet1_1", 64), ("shufflenet_v2_x1_0", 64), ("resnext50_32x4d", 64), ("regnet_y_400mf", 64),
    ("mnasnet1_0", 64), ("alexnet", 224)]}
NETWORKS = CIFAR | IMAGENET | OTHERS


def build(name):
    """A network whose values keep their size from layer to layer, whatever the depth."""
    torch.manual_seed(1)
    model = NETWORKS[name][0]().eval()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.75, 1.25)
            module.bias.data.uniform_(-0.1, 0.1)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.75, 1.25)
    for module in model.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.bn3.weight.data.mul_(0.25)
        elif isinstance(module, (torchvision.models.resnet.BasicBlock, BasicBlock)):
            module.bn2.weight.data.mul_(0.25)
    return model


class Transformer(nn.Module):
    """A vision transformer with two small layers."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.layers(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def export(model, image, path, exporter):
    if exporter == "dynamo":
        torch.onnx.export(model, (image,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},),
                          verbose=False)
    else:
        torch.onnx.export(model, image, path, dynamo=False, opset_version=17, input_names=["image"],
                          dynamic_axes={"image": {0: "batch"}})


def runtime(path, images):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def cargo(*arguments):
    """Builds, and gives the folder of what was built."""
    subprocess.run(["cargo", "build", "--quiet", *arguments], cwd=REPOSITORY, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=REPOSITORY, check=True,
                              capture_output=True, text=True)
    return pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "debug"


def exact_logits(infer, model, pictures, folder):
    from safetensors.numpy import load_file

    logits = folder / "logits.safetensors"
    subprocess.run([infer, "onnx", model, "--dataset-path", pictures, "--mean", "0", "--std", "1", "--logits", logits],
                   check=True, stdout=subprocess.DEVNULL)
    return load_file(logits)["exact"]


def write_pictures(images, folder):
    from PIL import Image

    pictures = folder / "pictures" / "0"
    pictures.mkdir(parents=True)
    for i, image in enumerate(images):
        pixels = np.round(image.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    return pictures.parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", help="all, if none is named")
    parser.add_argument("--exporters", default="legacy,dynamo")
    parser.add_argument("--infer", action="store_true", help="compare the logits of `infer onnx`")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.backends.mha.set_fastpath_enabled(False)  # a fused operator that cannot be exported
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    evaluate = cargo("-p", "cnn-onnx", "--example", "evaluate") / "examples" / "evaluate"
    infer = cargo("-p", "infer") / "infer" if args.infer else None

    failures = []
    print(f"{'network':28}{'exporter':>9}{'sites':>7}{'difference':>12}{'written':>10}", flush=True)
    unknown = [name for name in args.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    for name in args.networks or NETWORKS:
        size = NETWORKS[name][1]
        model = build(name)
        # Numbers that a picture can have.
        images = np.random.default_rng(1).integers(0, 256, (1 if size > 100 else 2, 3, size, size)) / 255
        images = images.astype(np.float32)
        for exporter in args.exporters.split(","):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                path, again = folder / "model.onnx", folder / "again.onnx"
                export(model, torch.from_numpy(images), path, exporter)
                expected = runtime(path, images)
                images.tofile(folder / "input")
                run = subprocess.run([evaluate, path, folder / "input", folder / "output", again],
                                     capture_output=True, text=True)
                if run.returncode:
                    print(f"{name:28}{exporter:>9}  {run.stderr}", flush=True)
                    failures.append(f"{name} {exporter}")
                    continue
                sites = len(run.stdout.splitlines())
                if infer:
                    logits = exact_logits(infer, path, write_pictures(images, folder), folder)
                else:
                    logits = np.fromfile(folder / "output").reshape(expected.shape)
                onnx.checker.check_model(again)
                written = runtime(again, images)
                share = lambda other: np.abs(other - expected).max() / np.abs(expected).max()
                difference, written = share(logits), share(written)
                print(f"{name:28}{exporter:>9}{sites:7}{difference:12.1e}{written:10.1e}", flush=True)
                if not (difference < LIMIT and written < LIMIT):
                    failures.append(f"{name} {exporter}")
    for exporter in args.exporters.split(","):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.onnx"
            export(Transformer().eval(), torch.rand(2, 3, 32, 32), path, exporter)
            run = subprocess.run([evaluate, path, path, path], capture_output=True, text=True)
            if not (run.returncode and "LayerNormalization" in run.stderr and "Softmax" in run.stderr):
                failures.append(f"transformer {exporter}")
    if failures:
        sys.exit(f"not equal: {', '.join(failures)}")


if __name__ == "__main__":
    main()
