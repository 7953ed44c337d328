"""The exact update of one training step of the generator, in float64, task by task and row by row.

    python generator_reference.py '{"folder": ..., "cell": ..., "output": ...}'

Writes OUTPUT/generator.bin: the change of W in the step, raw float64. It shares only the reading of
the arrays with the sides.
"""

import os

import torch

from generator_workload import FACTORISED, GeneratorWorkload
from side import arguments

OTHERS = ["year", "age", "gender", "occupation", "user", "title", "genres"]


def embedding(tables, feature, ids):
    """The embedding of one feature of one row."""
    found = tables[feature][ids]
    return found.mean(0) if feature in ("title", "genres") else found


def row_logit(dense, phi, others):
    fields = [phi, *others]
    hidden = torch.relu(torch.cat(fields) @ dense["layer0.weight"] + dense["layer0.bias"])
    hidden = torch.relu(hidden @ dense["layer1.weight"] + dense["layer1.bias"])
    inputs = [hidden]
    for place in FACTORISED:
        beside = sum(field for other, field in enumerate(fields) if other != place)
        inputs.append((fields[place] @ beside).reshape(1))
    return (torch.cat(inputs) @ dense["output.weight"])[0] + dense["bias"][0]


def task_loss(dense, tables, phi, ids, labels):
    total = 0
    for row, label in enumerate(labels):
        others = [embedding(tables, feature, ids[feature][row]) for feature in OTHERS]
        z = row_logit(dense, phi, others)
        total = total + torch.nn.functional.softplus(z) - label * z
    return total / len(labels)


def main():
    given = arguments()
    workload = GeneratorWorkload(given["folder"], given["cell"], torch.float64)
    tables = {feature: workload.table(feature) for feature in OTHERS}
    names = ["layer0.weight", "layer0.bias", "layer1.weight", "layer1.bias", "output.weight", "bias"]
    dense = {name: workload.dense(name) for name in names}
    weight = workload.dense("generator.weight").requires_grad_()
    batch = workload.batch(0)
    (support, support_labels), (query, query_labels) = batch["support"], batch["query"]
    task_count = len(support_labels)
    rate, share = workload.inner_rate, workload.cold_share
    total = torch.zeros_like(weight)
    for task in range(task_count):
        own = {feature: support[feature][task] for feature in OTHERS}
        inputs = [embedding(tables, name, own[name][0]) for name in ("year", "title", "genres")]
        phi = torch.tanh(torch.cat(inputs) @ weight) / 5
        cold = task_loss(dense, tables, phi, own, support_labels[task])
        (slope,) = torch.autograd.grad(cold, phi, create_graph=True)
        warm_ids = {feature: query[feature][task] for feature in OTHERS}
        warm = task_loss(dense, tables, phi - rate * slope, warm_ids, query_labels[task])
        outer = share * cold + (1 - share) * warm
        total += torch.autograd.grad(outer, weight)[0]
    update = -workload.meta_rate * total / task_count
    os.makedirs(given["output"], exist_ok=True)
    update.numpy().astype("<f8").tofile(os.path.join(given["output"], "generator.bin"))


main()
