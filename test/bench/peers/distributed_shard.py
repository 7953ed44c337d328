"""A worker's part of every batch of W2, and its own copy of the parameters.

Each of the workers computes the gradients of its tasks, and applies those of all workers, so that
the copies stay equal. The two frameworks differ only in how the gradients travel.
"""

import os

import torch

from side import Workload
from torch_side import trunk_gradient


class Shard:
    def __init__(self, given, rank):
        os.sched_setaffinity(0, {rank % os.cpu_count()})
        torch.set_num_threads(1)
        workload = Workload(given["folder"], given["cell"])
        self.rate = workload.meta_rate
        self.own_table = torch.from_numpy(workload.array("table"))
        self.own = [torch.from_numpy(x) for x in workload.layers()]
        self.trunk_size = workload.trunk_size
        self.width = self.own_table.shape[1]
        count = workload.task_count // given["workerCount"]
        tasks = slice(rank * count, (rank + 1) * count)
        self.batches = [[self._tensor(x[tasks]) for x in batch] for batch in workload.batches()]
        self.gradient = torch.compile(trunk_gradient(workload), dynamic=False)
        self.computes = given["computes"]
        self.kept = {}

    @staticmethod
    def _tensor(values):
        tensor = torch.from_numpy(values.copy())
        return tensor.long() if tensor.dtype == torch.int32 else tensor

    def gradients(self, index):
        """Sums over its tasks: unique ids, a row for each, and all layers end to end.

        Without computing, each batch is computed once and the same is returned ever after.
        """
        place = index % len(self.batches)
        if not self.computes and place in self.kept:
            return self.kept[place]
        support, support_labels, query, query_labels = self.batches[place]
        trunk, head = tuple(self.own[: self.trunk_size]), tuple(self.own[self.trunk_size :])
        _, of_query, of_trunk, of_head = self.gradient(
            self.own_table[support], self.own_table[query], trunk, head, support_labels, query_labels
        )
        ids, places = torch.unique(query.reshape(-1), return_inverse=True)
        rows = torch.zeros(len(ids), self.width)
        rows.index_add_(0, places, of_query.reshape(-1, self.width))
        flat = torch.cat([x.reshape(-1) for x in (*of_trunk, *of_head)])
        if not self.computes:
            self.kept[place] = (ids, rows, flat)
        return ids, rows, flat

    def apply(self, parts, flat):
        """`parts` has the ids and rows of every worker, `flat` the sum of their layers."""
        for ids, rows in parts:
            self.own_table.index_add_(0, ids, rows, alpha=-self.rate)
        start = 0
        for layer in self.own:
            end = start + layer.numel()
            layer.add_(flat[start:end].view_as(layer), alpha=-self.rate)
            start = end

    def layers(self):
        return [x.numpy() for x in self.own]

    def table(self):
        return self.own_table.numpy()
