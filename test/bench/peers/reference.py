"""The exact update of one meta step, in float64 and task by task, for every requested cell.

    python reference.py '{"folder": ..., "cells": [...], "output": ...}'

Writes, for each cell, OUTPUT/CELL/weight0.bin, ... and touchedRows.bin: the change of each tensor
in the step, raw float64. It shares only the reading of the workloads with the sides.
"""

import os

import torch

from side import Workload, arguments


def logits_of(layers, x):
    hidden = x
    for index in range(0, len(layers) - 2, 2):
        hidden = torch.relu(hidden @ layers[index] + layers[index + 1])
    return (hidden @ layers[-2] + layers[-1])[:, 0]


def loss_of(layers, x, labels):
    z = logits_of(layers, x)
    return (torch.nn.functional.softplus(z) - labels * z).mean()


def query_loss(workload, layers, support, support_labels, query, query_labels):
    """The loss of one task; differentiable in layers, support and query as the order requires."""
    keeps_path = workload.order == "second"
    moved = layers
    inside = support if keeps_path else support.detach()
    for _ in range(workload.inner_steps):
        loss = loss_of(moved, inside, support_labels)
        steps = torch.autograd.grad(loss, moved, create_graph=keeps_path)
        moved = [a - workload.inner_rate * b for a, b in zip(moved, steps)]
    return loss_of(moved, query, query_labels)


def write_cell(workload, folder):
    exact = [torch.from_numpy(x).double().requires_grad_() for x in workload.layers()]
    trunk, head = exact[: workload.trunk_size], exact[workload.trunk_size :]
    support, support_labels, query, query_labels = map(torch.from_numpy, workload.batch(0))
    wanted = list(exact)
    if workload.table_shape is None:
        inputs = lambda part: part.double()  # noqa: E731
    else:
        touched = torch.from_numpy(workload.array("batch0.touchedIds")).long()
        pack = torch.from_numpy(workload.array("table"))[touched].double().requires_grad_()
        wanted.append(pack)

        def inputs(ids):
            x = pack[torch.searchsorted(touched, ids.long())].flatten(1)
            for index in range(0, len(trunk), 2):
                x = torch.relu(x @ trunk[index] + trunk[index + 1])
            return x

    totals = [torch.zeros_like(x) for x in wanted]
    for task in range(workload.task_count):
        loss = query_loss(
            workload,
            head,
            inputs(support[task]),
            support_labels[task].double(),
            inputs(query[task]),
            query_labels[task].double(),
        )
        for total, gradient in zip(totals, torch.autograd.grad(loss, wanted)):
            total -= workload.meta_rate * gradient
    os.makedirs(folder, exist_ok=True)
    for name, total in zip([*workload.layer_names(), "touchedRows"], totals):
        total.numpy().astype("<f8").tofile(os.path.join(folder, f"{name}.bin"))


def main():
    given = arguments()
    for cell in given["cells"]:
        write_cell(Workload(given["folder"], cell), os.path.join(given["output"], cell))


main()
