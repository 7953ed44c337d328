"""PyTorch on the workloads: tasks by torch.func.vmap.

Variants of the gradient: `vmap`, or `compile` (the same through torch.compile). Variants of the
table's update: `unique` sums by unique id from torch.unique, `stamp` finds the unique ids by marking
a tensor of the table's length. Adding every occurrence is not accurate, and a dense gradient of the
table was slower in every cell.
"""

import time

START = time.perf_counter()

import torch  # noqa: E402
import torch.nn.functional as functional  # noqa: E402
from torch.func import grad, vmap  # noqa: E402

from side import Workload, arguments, serve  # noqa: E402


def forward(layers, x, ends_in_relu=False):
    for start in range(0, len(layers), 2):
        x = x @ layers[start] + layers[start + 1]
        if ends_in_relu or start + 2 < len(layers):
            x = torch.relu(x)
    return x


def task_loss(layers, features, labels):
    logits = forward(layers, features).squeeze(-1)
    return functional.binary_cross_entropy_with_logits(logits, labels)


def adapted(workload, layers, features, labels):
    for _ in range(workload.inner_steps):
        gradients = grad(task_loss)(layers, features, labels)
        layers = tuple(a - workload.inner_rate * b for a, b in zip(layers, gradients))
    return layers


def dense_gradient(workload):
    """(layers, support, support labels, query, query labels) to gradients of the layers."""

    def first_order_of_task(layers, support, support_labels, query, query_labels):
        moved = adapted(workload, layers, support, support_labels)
        return grad(task_loss)(moved, query, query_labels)

    def first_order(layers, *batch):
        by_task = vmap(first_order_of_task, in_dims=(None, 0, 0, 0, 0))(layers, *batch)
        return tuple(x.sum(0) for x in by_task)

    def loss_of_task(layers, support, support_labels, query, query_labels):
        return task_loss(adapted(workload, layers, support, support_labels), query, query_labels)

    def loss(layers, *batch):
        return vmap(loss_of_task, in_dims=(None, 0, 0, 0, 0))(layers, *batch).sum()

    return first_order if workload.order == "first" else grad(loss)


def trunk_gradient(workload):
    """(support rows, query rows, trunk, head, support labels, query labels) to gradients.

    Gradients of support rows (None in first order), query rows, trunk and head; rows are
    [taskCount, rowsPerTask, fieldCount, width].
    """

    def features(rows, trunk):
        return forward(trunk, rows.flatten(2), ends_in_relu=True)

    def adapt_task(head, support, labels):
        return adapted(workload, head, support, labels)

    def loss_of_tasks(moved, query, labels):
        return vmap(task_loss)(moved, query, labels).sum()

    def first_order(support_rows, query_rows, trunk, head, support_labels, query_labels):
        support = features(support_rows, trunk)
        moved = vmap(adapt_task, in_dims=(None, 0, 0))(head, support, support_labels)

        def loss(rows, own_trunk, own_moved):
            return loss_of_tasks(own_moved, features(rows, own_trunk), query_labels)

        of_rows, of_trunk, of_moved = grad(loss, argnums=(0, 1, 2))(query_rows, trunk, moved)
        return None, of_rows, of_trunk, tuple(x.sum(0) for x in of_moved)

    def second_order(support_rows, query_rows, trunk, head, support_labels, query_labels):
        def loss(own_support_rows, own_query_rows, own_trunk, own_head):
            support = features(own_support_rows, own_trunk)
            moved = vmap(adapt_task, in_dims=(None, 0, 0))(own_head, support, support_labels)
            return loss_of_tasks(moved, features(own_query_rows, own_trunk), query_labels)

        return grad(loss, argnums=(0, 1, 2, 3))(support_rows, query_rows, trunk, head)

    return first_order if workload.order == "first" else second_order


def move(layers, gradients, rate):
    for layer, gradient in zip(layers, gradients):
        layer.add_(gradient, alpha=-rate)


class DenseSide:
    """W1."""

    def __init__(self, workload, compiles):
        self.rate = workload.meta_rate
        self.own = tuple(torch.from_numpy(x) for x in workload.layers())
        self.batches = [[torch.from_numpy(x) for x in batch] for batch in workload.batches()]
        self.gradient = dense_gradient(workload)
        if compiles:
            self.gradient = torch.compile(self.gradient, dynamic=False)

    def step(self, index):
        batch = self.batches[index % len(self.batches)]
        move(self.own, self.gradient(self.own, *batch), self.rate)

    def layers(self):
        return [x.numpy() for x in self.own]


class TableSide:
    """W2."""

    def __init__(self, workload, compiles, update):
        self.rate = workload.meta_rate
        self.own_table = torch.from_numpy(workload.array("table"))
        self.own = tuple(torch.from_numpy(x) for x in workload.layers())
        self.trunk_size = workload.trunk_size
        self.batches = [
            [torch.from_numpy(x).long() if x.dtype == "int32" else torch.from_numpy(x) for x in batch]
            for batch in workload.batches()
        ]
        self.gradient = trunk_gradient(workload)
        if compiles:
            self.gradient = torch.compile(self.gradient, dynamic=False)
        self.update = getattr(self, f"_update_{update}")
        self.is_used = torch.zeros(len(self.own_table), dtype=torch.bool)
        self.places = torch.zeros(len(self.own_table), dtype=torch.long)

    def step(self, index):
        support, support_labels, query, query_labels = self.batches[index % len(self.batches)]
        trunk, head = self.own[: self.trunk_size], self.own[self.trunk_size :]
        of_support, of_query, of_trunk, of_head = self.gradient(
            self.own_table[support], self.own_table[query], trunk, head, support_labels, query_labels
        )
        width = self.own_table.shape[1]
        parts = [(query, of_query)] if of_support is None else [(support, of_support), (query, of_query)]
        self.update([(ids.reshape(-1), rows.reshape(-1, width)) for ids, rows in parts])
        move(self.own, (*of_trunk, *of_head), self.rate)

    def _update_unique(self, parts):
        ids, places = torch.unique(torch.cat([ids for ids, _ in parts]), return_inverse=True)
        self._subtract_by_place(ids, places, parts)

    def _update_stamp(self, parts):
        self.is_used.zero_()
        for ids, _ in parts:
            self.is_used[ids] = True
        found = self.is_used.nonzero().squeeze(1)
        self.places[found] = torch.arange(len(found))
        self._subtract_by_place(found, torch.cat([self.places[ids] for ids, _ in parts]), parts)

    def _subtract_by_place(self, ids, places, parts):
        sums = torch.zeros(len(ids), self.own_table.shape[1])
        start = 0
        for part, rows in parts:
            sums.index_add_(0, places[start : start + len(part)], rows)
            start += len(part)
        self.own_table.index_add_(0, ids, sums, alpha=-self.rate)

    def layers(self):
        return [x.numpy() for x in self.own]

    def table(self):
        return self.own_table.numpy()


def main():
    given = arguments()
    torch.set_num_threads(given["threadCount"])
    torch.set_num_interop_threads(1)
    workload = Workload(given["folder"], given["cell"])
    engine, *update = given["variant"].split("-")
    compiles = engine == "compile"
    if workload.table_shape is None:
        side = DenseSide(workload, compiles)
    else:
        side = TableSide(workload, compiles, update[0])
    serve(workload, side, {"torch": torch.__version__}, START)


if __name__ == "__main__":
    main()
