"""The generator's training step as both PyTorch sides read it: one batch's fields, labels and weights.

The fields are in the order of the model: film (generated), year, age, gender, occupation, user, title, genres;
title and genres are the mean of their members.
"""

import json
import os

import numpy as np
import torch

ROW_FIELDS = ["age", "gender", "occupation", "user"]
# Indices of the factorised fields among all eight.
FACTORISED = [0, 1, 2, 3, 6, 7]


class GeneratorWorkload:
    """The arrays that the runner described and wrote; `dtype` is that of everything except ids."""

    table_shape = None

    def __init__(self, folder, cell, dtype=torch.float32):
        self.folder = folder
        with open(os.path.join(folder, "workload.json"), encoding="utf8") as file:
            self.description = json.load(file)
        self.cell = cell
        self.dtype = dtype
        self.inner_rate = self.description["innerRate"]
        self.cold_share = self.description["coldShare"]
        self.meta_rate = self.description["metaRate"]
        self.batch_count = self.description["batchCount"]
        self.width = self.description["width"]

    def tensor(self, name):
        entry = self.description["arrays"][name]
        values = np.fromfile(os.path.join(self.folder, entry["file"]), dtype=entry["dtype"])
        values = torch.from_numpy(values.reshape(entry["shape"]))
        return values.long() if entry["dtype"] == "int32" else values.to(self.dtype)

    def table(self, feature):
        return self.tensor(f"table.{feature}")

    def dense(self, name):
        return self.tensor(f"dense.{name}")

    def batch(self, index):
        """Ids by feature, [taskCount, rows] (bags [taskCount, rows, length]), and labels, by role."""
        features = [*ROW_FIELDS, "year", "title", "genres"]
        parts = {}
        for role in ("support", "query"):
            prefix = f"{self.cell}.batch{index}.{role}"
            ids = {feature: self.tensor(f"{prefix}.{feature}") for feature in features}
            parts[role] = (ids, self.tensor(f"{prefix}.labels"))
        return parts

    def batches(self):
        return [self.batch(index) for index in range(self.batch_count)]

    # The interface that `serve` of side.py expects of a workload.
    def layer_names(self):
        return ["generator"]
