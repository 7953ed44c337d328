"""Fine-tuning of a trained DeepFM on the support rows of each held-out task, tuned on the validation tasks.

Two ways, of which validation chooses: a shift of the bias with a normal prior, solved exactly, and gradient
descent on all parameters from the shared start.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from deepfm import logits_of, loss_of
from rows import Rows
from training import Trained, labels_of

DEVIATIONS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2)
RATES = (0.003, 0.03, 0.3)
STEPS = (2, 10)
NEWTON_STEPS = 12
# Validation tasks that gradient descent on all parameters is tuned on.
TUNING_TASKS_MAX = 80


@dataclass(frozen=True)
class FineTuned:
    settings: dict
    validation_logloss: float
    # Of all rows; only held-out query rows are fine-tuned.
    logits: np.ndarray


def shifted(logits: np.ndarray, rows: Rows, deviation: float) -> np.ndarray:
    """Adds to each task's logits the mode of its shift given its support rows."""
    if deviation == 0:
        return logits
    support = np.flatnonzero(rows.is_support)
    tasks, z = rows.tasks[support], logits[support]
    clicks, shown = rows.clicks[support], rows.impressions[support]
    shift = np.zeros(rows.task_count)
    for _ in range(NEWTON_STEPS):
        rate = 1 / (1 + np.exp(-(z + shift[tasks])))
        slope = np.bincount(tasks, clicks - shown * rate, rows.task_count) - shift / deviation**2
        curve = np.bincount(tasks, shown * rate * (1 - rate), rows.task_count) + 1 / deviation**2
        shift = shift + np.clip(slope / curve, -2, 2)
    return logits + shift[rows.tasks]


def descended(trained: Trained, rows: Rows, tasks, rate: float, step_counts, logits: np.ndarray):
    """The logits after each of the step counts of gradient descent on all parameters, task by task."""
    labels = labels_of(rows)
    found = {count: logits.copy() for count in step_counts}
    order = np.argsort(rows.tasks, kind="stable")
    starts = np.searchsorted(rows.tasks[order], np.arange(rows.task_count + 1))
    model = copy.deepcopy(trained.model).eval()
    start = [parameter.detach().clone() for parameter in model.parameters()]
    for task in tasks:
        mine = order[starts[task] : starts[task + 1]]
        support = torch.tensor(mine[rows.is_support[mine]])
        query = torch.tensor(mine[~rows.is_support[mine]])
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value)
        taken = trained.inputs.take(support)
        for step in range(1, max(step_counts) + 1):
            clicks, shown = labels.clicks[support], labels.impressions[support]
            loss = loss_of(model(*taken), clicks, shown)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter -= rate * gradient
            if step in found:
                found[step][query.numpy()] = logits_of(model, trained.inputs, query).numpy()
    return found


def fine_tune(trained: Trained, rows: Rows, seed: int) -> FineTuned:
    every = torch.arange(len(rows.tasks))
    logits = logits_of(trained.model, trained.inputs, every).double().numpy()
    held = rows.query_of("validation")
    tried = [descent(trained, rows, logits, seed)]
    for deviation in DEVIATIONS:
        found = shifted(logits, rows, deviation)
        settings = {"kind": "shift", "deviation": deviation}
        tried.append(FineTuned(settings, loss_on(rows, found, held), found))
    return min(tried, key=lambda one: one.validation_logloss)


def loss_on(rows: Rows, logits: np.ndarray, mask: np.ndarray) -> float:
    columns = (logits[mask], rows.clicks[mask], rows.impressions[mask])
    return float(loss_of(*(torch.tensor(column) for column in columns)))


def descent(trained: Trained, rows: Rows, logits: np.ndarray, seed: int) -> FineTuned:
    """Tuned on some validation tasks; its loss is that on all of them."""
    held = rows.query_of("validation")
    validation = np.unique(rows.tasks[held])
    stream = np.random.default_rng(seed)
    few = stream.permutation(validation)[:TUNING_TASKS_MAX]
    mask = held & np.isin(rows.tasks, few)
    losses = {}
    for rate in RATES:
        for count, found in descended(trained, rows, few, rate, STEPS, logits).items():
            losses[rate, count] = loss_on(rows, found, mask)
    rate, count = min(losses, key=losses.get)
    both = np.concatenate([validation, np.unique(rows.tasks[rows.query_of("test")])])
    found = descended(trained, rows, both, rate, [count], logits)[count]
    settings = {"kind": "all parameters", "rate": rate, "steps": count}
    return FineTuned(settings, loss_on(rows, found, held), found)
