"""Holds `infer imagenet` against torchvision on a folder of pictures: decoding, resizing, legacy files, networks.

    python3 benchmarks/torchvision_parity.py PICTURES [--backbones resnet18,…] [--limit N]

PICTURES is a folder of class folders. For each network, torchvision's own with random weights is saved in the
legacy layout, run on the pictures with torchvision's transforms, and compared with the exact logits of `infer`,
which reads the same file and pictures. Prints the largest difference as a share of the largest logit, how many
pictures get the same class, and how many keep it in the approximate network (alpha 14).
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import safetensors.torch
import torch
import torchvision
from torchvision.transforms import v2

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
NETWORKS = {
    "resnet18": "resnet18", "resnet34": "resnet34", "resnet50": "resnet50", "resnet101": "resnet101",
    "resnet152": "resnet152", "vgg11bn": "vgg11_bn", "vgg13bn": "vgg13_bn", "vgg16bn": "vgg16_bn",
    "vgg19bn": "vgg19_bn", "googlenet": "googlenet", "inception_v3": "inception_v3",
}


def build(name):
    """A network whose values keep their size from layer to layer, whatever the depth."""
    torch.manual_seed(1)
    options = {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = getattr(torchvision.models, name)(weights=None, **options).eval()
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.75, 1.25)
    for module in model.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.bn3.weight.data.mul_(0.25)
        elif isinstance(module, torchvision.models.resnet.BasicBlock):
            module.bn2.weight.data.mul_(0.25)
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("--backbones", default=",".join(NETWORKS))
    parser.add_argument("--limit", type=int, default=1000)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    subprocess.run(["cargo", "build", "--quiet", "-p", "infer"], cwd=REPOSITORY, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=REPOSITORY, check=True,
                              capture_output=True, text=True)
    infer = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "debug" / "infer"

    print(f"{'network':14}{'difference':>11}{'classes':>14}{'approximate':>14}")
    for backbone in args.backbones.split(","):
        size = 299 if backbone == "inception_v3" else 224
        transform = v2.Compose([
            v2.Resize(342 if size == 299 else 256), v2.CenterCrop(size), v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ])
        images = torchvision.datasets.ImageFolder(args.pictures, transform)
        images.samples = images.samples[: args.limit]
        model = build(NETWORKS[backbone])
        batches = torch.utils.data.DataLoader(images, batch_size=16)
        expected = torch.cat([model(batch) for batch, _ in batches])
        with tempfile.TemporaryDirectory() as folder:
            weights, logits = f"{folder}/weights.pth", f"{folder}/logits.safetensors"
            torch.save(model.state_dict(), weights, _use_new_zipfile_serialization=False)
            del model
            subprocess.run(
                [infer, "imagenet", backbone, "--params", weights, "--dataset-path", args.pictures, "--logits", logits,
                 "--limit", str(len(images.samples)), "--image-size", str(size)],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            found = safetensors.torch.load_file(logits)
        difference = (found["exact"] - expected).abs().max() / expected.abs().max()
        same = (found["exact"].argmax(1) == expected.argmax(1)).sum()
        kept = (found["approx"].argmax(1) == found["exact"].argmax(1)).sum()
        count = len(images.samples)
        print(f"{backbone:14}{difference:11.1e}{same:8} / {count:<4}{kept:8} / {count:<4}", flush=True)


if __name__ == "__main__":
    main()
