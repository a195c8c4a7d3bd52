"""The demo's network in PyTorch, in float64: writes demo_pytorch.json (README.md).

    python demo_pytorch.py        # with PyTorch 2.15 and safetensors
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).parents[4]
sys.path.insert(0, str(REPOSITORY / "crates/approx-models/tests/golden"))
from training_step import Activations, ResNet20  # noqa: E402

BOUND = 20.0
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def logits(act, images):
    network = ResNet20(act)
    network.load_state_dict(load_file(REPOSITORY / "weights/demo/resnet20.safetensors"), strict=False)
    with torch.no_grad():
        return torch.cat([network.eval()(batch) for batch in images.split(100)])


records = np.fromfile(REPOSITORY / "datasets/demo/test_batch_1000.bin", dtype=np.uint8).reshape(-1, 3073)
labels = torch.from_numpy(records[:, 0].astype(np.int64))
pixels = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32) / 255.0)
images = (pixels - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
result = {"exact_argmax": logits(Activations(), images).argmax(1).tolist(), "bound": BOUND, "alpha": {}}
for alpha in range(14, 5, -1):
    try:
        found = logits(Activations(alpha, BOUND, BOUND), images)
    except AssertionError:
        result["alpha"][alpha] = {"range_error": True}
        print(alpha, "a value leaves the range")
        continue
    accuracy = (found.argmax(1) == labels).double().mean().item()
    first = found[:8].tolist()
    result["alpha"][alpha] = {"accuracy": accuracy, "argmax": found.argmax(1).tolist(), "logits_of_first_8": first}
    print(alpha, accuracy)
Path(__file__).with_name("demo_pytorch.json").write_text(json.dumps(result) + "\n")
