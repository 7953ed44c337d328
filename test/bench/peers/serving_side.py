"""PyTorch on the setting of the kernel's bench: one context, candidates with gathered personal weights.

    python serving_side.py '{"folder": ..., "threadCount": 1}'

The context is multiplied once. FOLDER/serving.json says where the raw arrays lie and what shapes they have.
"""

import json
import os
import time

START = time.perf_counter()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from side import arguments, serve  # noqa: E402

WIDTH = 16
CONTEXT_FIELDS = 6


class Names:
    """The part of a workload that a check reads."""

    table_shape = None

    @staticmethod
    def layer_names():
        return ["logits"]


class Side:
    def __init__(self, folder):
        with open(os.path.join(folder, "serving.json"), encoding="utf8") as file:
            self.about = json.load(file)

        def array(name, dtype="<f4"):
            values = np.fromfile(os.path.join(folder, f"{name}.bin"), dtype=dtype)
            return torch.from_numpy(values.reshape(self.about["shapes"][name]))

        self.tables, self.blocks = array("tables"), array("blocks")
        first = array("layer0.weight")
        self.context_weights = first[: CONTEXT_FIELDS * WIDTH].contiguous()
        self.weights0 = first[CONTEXT_FIELDS * WIDTH :].contiguous()
        self.bias0, self.weights1, self.bias1 = array("layer0.bias"), array("layer1.weight"), array("layer1.bias")
        self.contexts, self.rows, self.adgroups = (
            array(name, "<i4").long() for name in ("contexts", "rows", "adgroups")
        )
        self.found = None

    def step(self, index):
        at = index % len(self.contexts)
        self.found = self.logits(self.contexts[at], self.rows[at], self.adgroups[at]).numpy()

    def logits(self, context, rows, adgroups):
        count = len(adgroups)
        shared, gathered = self.tables[context], self.tables[rows]
        own = self.blocks[adgroups]
        embedding_at, output_at = self.about["embeddingAt"], self.about["outputAt"]
        vectors = shared[:, :WIDTH]
        embedding = own[:, embedding_at : embedding_at + WIDTH]
        x = torch.cat([gathered[:, :WIDTH].reshape(count, -1), embedding], 1)
        start = torch.addmm(self.bias0, vectors.reshape(1, -1), self.context_weights)
        hidden = torch.relu(x @ self.weights0 + start)
        hidden = torch.relu(torch.addmm(self.bias1, hidden, self.weights1))
        output = (hidden * own[:, output_at : output_at + 64]).sum(1)
        total = x.reshape(count, -1, WIDTH).sum(1) + vectors.sum(0)
        pairs = 0.5 * ((total * total).sum(1) - (x * x).sum(1) - (vectors * vectors).sum())
        linear = gathered[:, WIDTH].reshape(count, -1).sum(1) + shared[:, WIDTH].sum()
        return output + pairs + linear + own[:, self.about["biasAt"]]

    def layers(self):
        return [self.found]


def main():
    given = arguments()
    torch.set_num_threads(given["threadCount"])
    with torch.inference_mode():
        serve(Names, Side(given["folder"]), {"torch": torch.__version__}, START)


main()
