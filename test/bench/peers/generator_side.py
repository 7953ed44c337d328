"""PyTorch on the generator's training step of Meta-Embedding (Pan et al., SIGIR 2019): the gradient of

  c L(phi ; A) + (1 - c) L(phi - a dL(phi ; A)/dphi ; B),  phi = tanh(W [year; title; genres]) / 5

with respect to W, Hessian term included, on a frozen DeepFM, and a step along it.

Variants of the loss:
`plain`    the whole model on all fields of every row, autograd only with respect to phi and W
`split`    the part of the frozen base for the other fields runs without a tape; on the tape, the
           generated embedding is multiplied with its rows of the first layer once per task, and with
           the interactions as one vector
`by-task`  like split, and fields that all rows of a task share are computed once per task
Variants of the gradient: plain autograd; `vmap-` per task by torch.func and batched; `compile-` the
batched loss by torch.func through torch.compile.
"""

import time

START = time.perf_counter()

import torch  # noqa: E402
import torch.nn.functional as functional  # noqa: E402
from torch.func import grad, grad_and_value, vmap  # noqa: E402

from generator_workload import FACTORISED, ROW_FIELDS, GeneratorWorkload  # noqa: E402
from side import arguments, serve  # noqa: E402

TASK_FIELDS = ["year", "title", "genres"]


def losses_of(logits, labels):
    """Mean over the rows of each task."""
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)


class Model:
    """The frozen base. `prepared` runs without a tape; `logits` takes its result and embeddings [.., W]."""

    def __init__(self, workload):
        self.width = workload.width
        features = [*ROW_FIELDS, *TASK_FIELDS]
        self.tables = {feature: workload.table(feature) for feature in features}
        names = ["layer0.weight", "layer0.bias", "layer1.weight", "layer1.bias", "output.weight", "bias"]
        self.w0, self.b0, self.w1, self.b1, self.w_out, self.bias = map(workload.dense, names)
        self.hidden_width = self.w1.shape[1]

    def field(self, feature, ids):
        rows = self.tables[feature][ids]
        return rows.mean(-2) if feature in ("title", "genres") else rows

    def attributes(self, ids):
        return torch.cat([self.field(feature, ids[feature][:, 0]) for feature in TASK_FIELDS], -1)


class Plain(Model):
    def prepared(self, ids):
        order = ["year", *ROW_FIELDS, "title", "genres"]
        return (torch.stack([self.field(feature, ids[feature]) for feature in order], -2),)

    def logits(self, embedding, fields):
        own = embedding.unsqueeze(-2).unsqueeze(-2).expand(*fields.shape[:-2], 1, self.width)
        e = torch.cat([own, fields], -2)
        hidden = torch.relu(e.flatten(-2) @ self.w0 + self.b0)
        hidden = torch.relu(hidden @ self.w1 + self.b1)
        total = e.sum(-2, keepdim=True)
        chosen = e[..., FACTORISED, :]
        interactions = (chosen * (total - chosen)).sum(-1)
        return (torch.cat([hidden, interactions], -1) @ self.w_out).squeeze(-1) + self.bias


class Split(Model):
    def __init__(self, workload):
        super().__init__(workload)
        width = self.width
        self.own_w0, self.other_w0 = self.w0[:width], self.w0[width:]
        own, *others = self.w_out[self.hidden_width :, 0]
        self.own_share = own
        # year, age, gender, occupation, user, title, genres; two are not factorised.
        zero = torch.zeros_like(own)
        year, age, gender, title, genres = others
        self.shares = torch.stack([year, age, gender, zero, zero, title, genres]).unsqueeze(-1)
        self.hidden_share = self.w_out[: self.hidden_width, 0]

    def prepared(self, ids):
        order = ["year", *ROW_FIELDS, "title", "genres"]
        fields = torch.stack([self.field(feature, ids[feature]) for feature in order], -2)
        scaled = fields * self.shares
        total, weighted = fields.sum(-2), scaled.sum(-2)
        constant = (weighted * total).sum(-1) - (scaled * fields).sum((-2, -1)) + self.bias
        first = fields.flatten(-2) @ self.other_w0 + self.b0
        return first, weighted + self.own_share * total, constant

    def logits(self, embedding, first, beside, constant):
        hidden = torch.relu(first + (embedding @ self.own_w0).unsqueeze(-2))
        hidden = torch.relu(hidden @ self.w1 + self.b1)
        interactions = (beside @ embedding.unsqueeze(-1)).squeeze(-1)
        return hidden @ self.hidden_share + interactions + constant


class ByTask(Split):
    def __init__(self, workload):
        super().__init__(workload)
        parts = self.other_w0.split(self.width)
        self.row_w0 = torch.cat(parts[1:5])
        self.task_w0 = torch.cat([parts[0], parts[5], parts[6]])
        self.row_shares, self.task_shares = self.shares[1:5], self.shares[[0, 5, 6]]

    def prepared(self, ids):
        rows = torch.stack([self.field(feature, ids[feature]) for feature in ROW_FIELDS], -2)
        task_ids = {feature: ids[feature][:, :1] for feature in TASK_FIELDS}
        tasks = torch.stack([self.field(feature, task_ids[feature]) for feature in TASK_FIELDS], -2)
        scaled_rows, scaled_tasks = rows * self.row_shares, tasks * self.task_shares
        total = rows.sum(-2) + tasks.sum(-2)
        weighted = scaled_rows.sum(-2) + scaled_tasks.sum(-2)
        squares = (scaled_rows * rows).sum((-2, -1)) + (scaled_tasks * tasks).sum((-2, -1))
        constant = (weighted * total).sum(-1) - squares + self.bias
        first = rows.flatten(-2) @ self.row_w0 + (tasks.flatten(-2) @ self.task_w0 + self.b0)
        return first, weighted + self.own_share * total, constant


MODELS = {"plain": Plain, "split": Split, "by-task": ByTask}


class Side:
    def __init__(self, workload, variant):
        how = next((how for how in ("vmap", "compile") if variant.startswith(f"{how}-")), "")
        name = variant.removeprefix(f"{how}-")
        self.workload = workload
        self.model = MODELS[name](workload)
        self.batches = workload.batches()
        self.weight = workload.dense("generator.weight")
        self.gradient = {"": self.by_autograd, "vmap": self.by_vmap, "compile": self.batched}[how]
        if how == "compile":
            self.gradient = torch.compile(self.gradient, dynamic=False)

    def phi(self, weight, attributes):
        return torch.tanh(attributes @ weight) / 5

    def by_autograd(self, weight, batch):
        model, rate, share = self.model, self.workload.inner_rate, self.workload.cold_share
        (support_ids, support_labels), (query_ids, query_labels) = batch["support"], batch["query"]
        with torch.no_grad():
            attributes = model.attributes(support_ids)
            support, query = model.prepared(support_ids), model.prepared(query_ids)
        weight = weight.detach().requires_grad_()
        phi = self.phi(weight, attributes)
        cold = losses_of(model.logits(phi, *support), support_labels)
        (slope,) = torch.autograd.grad(cold.sum(), phi, create_graph=True)
        warm = losses_of(model.logits(phi - rate * slope, *query), query_labels)
        outer = (share * cold + (1 - share) * warm).mean()
        return torch.autograd.grad(outer, weight)[0]

    def outer_losses(self, weight, attributes, support, support_labels, query, query_labels):
        """For one task, or for tasks along the first axis."""
        model, rate, share = self.model, self.workload.inner_rate, self.workload.cold_share
        phi = self.phi(weight, attributes)

        def cold_losses(own):
            losses = losses_of(model.logits(own, *support), support_labels)
            return losses.sum(), losses

        slope, (_, cold) = grad_and_value(cold_losses, has_aux=True)(phi)
        warm = losses_of(model.logits(phi - rate * slope, *query), query_labels)
        return share * cold + (1 - share) * warm

    def inputs(self, batch):
        (support_ids, support_labels), (query_ids, query_labels) = batch["support"], batch["query"]
        model = self.model
        parts = model.prepared(support_ids), support_labels, model.prepared(query_ids), query_labels
        return (model.attributes(support_ids), *parts)

    def by_vmap(self, weight, batch):
        with torch.no_grad():
            inputs = self.inputs(batch)

        def outer(own):
            return vmap(lambda *task: self.outer_losses(own, *task))(*inputs).mean()

        return grad(outer)(weight)

    def batched(self, weight, batch):
        inputs = self.inputs(batch)
        return grad(lambda own: self.outer_losses(own, *inputs).mean())(weight)

    def step(self, index):
        batch = self.batches[index % len(self.batches)]
        self.weight.add_(self.gradient(self.weight, batch), alpha=-self.workload.meta_rate)

    def layers(self):
        return [self.weight.numpy()]


def main():
    given = arguments()
    torch.set_num_threads(given["threadCount"])
    torch.set_num_interop_threads(1)
    workload = GeneratorWorkload(given["folder"], given["cell"])
    serve(workload, Side(workload, given["variant"]), {"torch": torch.__version__}, START)


main()
