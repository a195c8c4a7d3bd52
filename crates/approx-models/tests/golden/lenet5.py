"""LeNet-5 in NumPy, in float64, on hashed weights (README.md): writes mnist_lenet5.json and its list of tensors.

    python lenet5.py        # with NumPy 2

The network is written here anew, from its description: there is no code of its authors.
"""

import json
import math

import numpy as np

from common import HERE, Sign, hashed

SHAPES = {
    "conv1.weight": (6, 1, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (16, 6, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (120, 400),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}


class Network:
    """Exact where there is no `alpha`; `relu` is another function in place of ReLU."""

    def __init__(self, alpha=None, b_relu=None, b_max=None, relu=None):
        self.alpha, self.b_relu, self.b_max, self.other = alpha, b_relu, b_max, relu
        self.sign = Sign(alpha) if alpha else None
        self.largest = {"relu": 0.0, "maxpool": 0.0}

    def see(self, kind, x, bound):
        self.largest[kind] = max(self.largest[kind], np.abs(x).max())
        assert bound is None or self.largest[kind] <= bound, (kind, self.largest[kind], bound)

    def relu(self, x):
        self.see("relu", x, self.b_relu)
        if self.other:
            return self.other(x)
        if self.sign is None:
            return np.maximum(x, 0)
        return x * (1 + self.sign(x / self.b_relu)) / 2

    def max_pool(self, x):
        self.see("maxpool", x, self.b_max)
        taps = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        if self.sign is None:
            return np.maximum.reduce(taps)
        c = (1 - 4 * 2.0**-self.alpha) / (2 * self.b_max)
        maximum = lambda a, b: (a + b + (a - b) * self.sign(a - b)) / 2
        taps = [c * tap + 0.5 for tap in taps]
        return (maximum(maximum(taps[0], taps[1]), maximum(taps[2], taps[3])) - 0.5) / c

    def conv(self, name, x, padding):
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
        weight, bias = (hashed(f"{name}.{kind}", SHAPES[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        return np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]

    def linear(self, name, x):
        weight, bias = (hashed(f"{name}.{kind}", SHAPES[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        return x @ weight.T + bias

    def __call__(self, x):
        x = self.max_pool(self.relu(self.conv("conv1", x, 2)))
        x = self.max_pool(self.relu(self.conv("conv2", x, 0)))
        x = self.relu(self.linear("fc1", x.reshape(len(x), -1)))
        return self.linear("fc3", self.relu(self.linear("fc2", x)))


def main():
    shape = (2, 1, 28, 28)
    images = hashed("input", shape)
    exact = Network()
    logits = exact(images)
    golden = {
        "seed": "dev",
        "input_shape": shape,
        "parameters": sum(map(math.prod, SHAPES.values())),
        "max_abs_relu_input": exact.largest["relu"],
        "max_abs_maxpool_input": exact.largest["maxpool"],
        "exact": logits.tolist(),
        "exact_argmax": logits.argmax(1).tolist(),
        "approx": [],
    }
    methods = {"square": lambda x: x * x, "relu_aq": lambda x: x * x / 8 + x / 2 + 0.25}
    cases = [{"alpha": alpha, "b_relu": 15.0, "b_max": 15.0} for alpha in (14, 10, 7)]
    for case in cases + [{"method": method} for method in methods]:
        network = Network(relu=methods[case["method"]]) if "method" in case else Network(**case)
        logits = network(images)
        golden["approx"].append(case | {"logits": logits.tolist(), "argmax": logits.argmax(1).tolist()})
        print(case, network.largest, np.sort(logits)[:, -2:])
    (HERE / "mnist_lenet5.json").write_text(json.dumps(golden) + "\n")
    lines = [f"{name} {'x'.join(map(str, shape))}\n" for name, shape in SHAPES.items()]
    (HERE / "state_dicts" / "mnist_lenet5.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
