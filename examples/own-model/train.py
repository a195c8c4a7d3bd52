"""Trains the example's network with PyTorch and writes its weights.

python train.py FOLDER small_cnn.safetensors

FOLDER holds data_batch_1.bin to data_batch_5.bin and test_batch.bin in the layout of CIFAR-10's binary version.
Needs torch, numpy and safetensors.
"""

import hashlib
import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

EPOCHS, BATCH, PEAK_RATE, SEED = 12, 128, 0.1, 7


class SmallCnn(nn.Module):
    """The definition in src/main.rs, with the same names."""

    def __init__(self):
        super().__init__()
        for stage, (inputs, outputs) in enumerate([(3, 16), (16, 32), (32, 64)], start=1):
            setattr(self, f"conv{stage}", nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
            setattr(self, f"bn{stage}", nn.BatchNorm2d(outputs))
        self.fc = nn.Linear(64, 10)

    def forward(self, images):
        xs = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 2)
        xs = F.max_pool2d(F.relu(self.bn2(self.conv2(xs))), 2)
        xs = F.relu(self.bn3(self.conv3(xs)))
        return self.fc(xs.mean((2, 3)))


def read(files):
    records = np.concatenate([np.fromfile(file, np.uint8) for file in files]).reshape(-1, 3073)
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    # approx_data::Normalization::CIFAR10.
    mean, std = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    images = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


def main():
    folder, output = Path(sys.argv[1]), sys.argv[2]
    torch.manual_seed(SEED)
    files = [folder / f"data_batch_{i}.bin" for i in range(1, 6)]
    print("SHA-256 of the training files:", hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest())
    (images, labels), (test_images, test_labels) = read(files), read([folder / "test_batch.bin"])
    network = SmallCnn()
    optimiser = torch.optim.SGD(network.parameters(), PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    for epoch in range(1, EPOCHS + 1):
        network.train()
        for batch in torch.randperm(len(images)).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            right = sum((network(xs).argmax(1) == ys).sum().item()
                        for xs, ys in zip(test_images.split(1000), test_labels.split(1000)))
        print(f"epoch {epoch}: {100 * right / len(test_labels):.2f} % of the test images", flush=True)
    save_file(network.state_dict(), output)


if __name__ == "__main__":
    main()
