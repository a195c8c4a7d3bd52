"""A step of training in PyTorch, in float64, on hashed weights (README.md): writes training_*.json.

    python training_step.py        # with PyTorch 2.15

The networks are written here anew, with the names of the original state_dicts. Dropout is off.
"""

import json

import torch
import torch.nn.functional as F
from torch import nn

import common
from common import HERE, Sign

IMAGES, LR, SAMPLES = 8, 0.001, 12
torch.set_default_dtype(torch.float64)


def hashed(name, shape):
    return torch.from_numpy(common.hashed(name, shape))


class Activations:
    """Exact, or the published approximation."""

    def __init__(self, alpha=None, b_relu=None, b_max=None):
        self.sign = Sign(alpha) if alpha else None
        self.alpha, self.b_relu, self.b_max = alpha, b_relu, b_max

    def relu(self, x):
        if self.sign is None:
            return F.relu(x)
        assert x.abs().max() <= self.b_relu, x.abs().max()
        return x * (1 + self.sign(x / self.b_relu)) / 2

    def max_pool(self, x):
        if self.sign is None:
            return F.max_pool2d(x, 2)
        assert x.abs().max() <= self.b_max, x.abs().max()
        c = (1 - 4 * 2.0**-self.alpha) / (2 * self.b_max)
        maximum = lambda a, b: (a + b + (a - b) * self.sign(a - b)) / 2
        taps = [c * x[:, :, i::2, j::2] + 0.5 for i in (0, 1) for j in (0, 1)]
        return (maximum(maximum(taps[0], taps[1]), maximum(taps[2], taps[3])) - 0.5) / c


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, act):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.zeros, self.act = stride, (outputs - inputs) // 2, act

    def forward(self, x):
        y = self.bn2(self.conv2(self.act.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))
        return self.act.relu(y + x)


class ResNet20(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv1, self.bn1, self.act = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), act
        stage = lambda i, o: nn.Sequential(Block(i, o, o // i, act), Block(o, o, 1, act), Block(o, o, 1, act))
        self.layer1, self.layer2, self.layer3 = stage(16, 16), stage(16, 32), stage(32, 64)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.act.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Vgg11(nn.Module):
    def __init__(self, act):
        super().__init__()
        layers, inputs, self.act = [], 3, act
        for entry in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
            if entry == "M":
                layers.append(nn.Identity())
            else:
                layers += [nn.Conv2d(inputs, entry, 3, padding=1), nn.BatchNorm2d(entry), nn.ReLU()]
                inputs = entry
        self.features = nn.Sequential(*layers)
        self.linear1, self.linear2, self.linear3 = nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 10)

    def forward(self, x):
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                x = self.act.relu(x)
            elif isinstance(layer, nn.Identity):
                x = self.act.max_pool(x)
            else:
                x = layer(x)
        x = self.act.relu(self.linear1(x.flatten(1)))
        return self.linear3(self.act.relu(self.linear2(x)))


def run(name, network):
    names = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    network.load_state_dict({key: hashed(key, network.state_dict()[key].shape) for key in names}, strict=False)
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), LR, momentum=0.9, weight_decay=5e-3, nesterov=True)
    images = hashed("input", (IMAGES, 3, 32, 32))
    labels = torch.arange(IMAGES) % 10
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    optimiser.step()
    tensors = {}
    for key in names:
        change = (network.state_dict()[key] - hashed(key, network.state_dict()[key].shape)).flatten()
        places = [i * len(change) // SAMPLES for i in range(min(SAMPLES, len(change)))]
        tensors[key] = {
            "largest_change": change.abs().max().item(),
            "sum_of_changes": change.sum().item(),
            "absolute_sum_of_changes": change.abs().sum().item(),
            "norm_of_change": change.norm().item(),
            "places": places,
            "changes": change[places].tolist(),
        }
    result = {"images": IMAGES, "lr": LR, "momentum": 0.9, "weight_decay": 5e-3, "loss": loss.item(), "tensors": tensors}
    act = network.act
    result["policy"] = {"alpha": act.alpha, "b_relu": act.b_relu, "b_max": act.b_max}
    (HERE / f"training_{name}.json").write_text(json.dumps(result, indent=0) + "\n")
    print(name, loss.item())


if __name__ == "__main__":
    run("resnet20", ResNet20(Activations()))
    run("vgg11bn", Vgg11(Activations()))
    run("resnet20_alpha7", ResNet20(Activations(7, 20.0, 20.0)))
    run("vgg11bn_alpha7", Vgg11(Activations(7, 20.0, 20.0)))
