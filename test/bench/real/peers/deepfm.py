"""An independent DeepFM in PyTorch (Guo et al., IJCAI 2017): first order, factorisation machine and a network over the fields' embeddings."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rows import Rows
from target_encodings import log_odds, members_of, own_task, standardised


@dataclass(frozen=True)
class Inputs:
    """Rows as tensors. A category is a bag of one; ids index one table for all fields, and 0 pads."""

    # By field with a table: [row_count, members], int64.
    bags: list[torch.Tensor]
    # [row_count, number_count], float32.
    numbers: torch.Tensor
    table_size: int
    # By field with a table: the id that stands for unknown values.
    unknown: list[int]

    def take(self, chosen: torch.Tensor):
        return [bag[chosen] for bag in self.bags], self.numbers[chosen]


def inputs_of(rows: Rows, with_support: bool, seed: int) -> Inputs:
    """With support, the smoothed rate of the own task and its count are two more number fields."""
    bags, unknown, numbers = [], [], []
    next_id = 1
    for field in rows.fields:
        if field.kind == "number":
            numbers.append(standardised(rows, rows.columns[field.name]))
            continue
        owners, members = members_of(rows, field)
        trained = rows.of_split("train")[owners]
        values, counts = np.unique(members[trained].astype(str), return_counts=True)
        frequent = values[counts >= field.count_min]
        unknown.append(next_id)
        ids = {value: next_id + 1 + index for index, value in enumerate(frequent)}
        bags.append(padded(owners, members, ids, next_id, len(rows.tasks)))
        next_id += 1 + len(frequent)
    if with_support:
        evidence = own_task(rows, 20.0, seed)
        numbers += [evidence[:, 0], evidence[:, 1] / 4]
    stacked = np.column_stack(numbers) if numbers else np.zeros((len(rows.tasks), 0))
    return Inputs(bags, torch.tensor(stacked, dtype=torch.float32), next_id, unknown)


def padded(owners, members, ids: dict, unknown: int, row_count: int) -> torch.Tensor:
    lengths = np.bincount(owners, minlength=row_count)
    table = np.zeros((row_count, max(int(lengths.max()), 1)), dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    places = np.arange(len(owners)) - starts[owners]
    table[owners, places] = [ids.get(str(member), unknown) for member in members]
    return torch.tensor(table)


@dataclass(frozen=True)
class Settings:
    width: int
    hidden: tuple[int, ...]
    dropout: float
    id_dropout: float
    decay: float
    rate: float
    batch: int = 1024


class DeepFM(nn.Module):
    def __init__(self, inputs: Inputs, settings: Settings, start_rate: float):
        super().__init__()
        self.unknown = inputs.unknown
        self.id_dropout = settings.id_dropout
        number_count = inputs.numbers.shape[1]
        self.table = nn.Embedding(inputs.table_size, settings.width, padding_idx=0)
        self.first_order = nn.Embedding(inputs.table_size, 1, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.01)
        nn.init.zeros_(self.first_order.weight)
        with torch.no_grad():
            self.table.weight[0] = 0
        self.number_vectors = nn.Parameter(0.01 * torch.randn(number_count, settings.width))
        self.number_weights = nn.Parameter(torch.zeros(number_count))
        width = (len(inputs.bags) + number_count) * settings.width
        layers = []
        for size in settings.hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(settings.dropout)]
            width = size
        self.network = nn.Sequential(nn.Dropout(settings.dropout), *layers)
        self.output = nn.Linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.tensor(float(log_odds(start_rate))))

    def forward(self, bags, numbers):
        vectors, linear = [], self.bias + numbers @ self.number_weights
        for bag, unknown in zip(bags, self.unknown, strict=True):
            if self.training and self.id_dropout > 0:
                hidden = (torch.rand(bag.shape) < self.id_dropout) & (bag > 0)
                bag = bag.masked_fill(hidden, unknown)
            size = (bag > 0).sum(1, keepdim=True).clamp(min=1)
            vectors.append(self.table(bag).sum(1) / size)
            linear = linear + (self.first_order(bag).sum(1) / size)[:, 0]
        fields = torch.cat(
            [torch.stack(vectors, 1), numbers[:, :, None] * self.number_vectors], dim=1
        )
        pairs = (fields.sum(1) ** 2 - (fields**2).sum(1)).sum(1) / 2
        return linear + pairs + self.output(self.network(fields.flatten(1)))[:, 0]


def logits_of(model: DeepFM, inputs: Inputs, chosen: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(*inputs.take(part)) for part in chosen.split(8192)])


def loss_of(logits, clicks, impressions) -> torch.Tensor:
    """The mean over impressions."""
    losses = impressions * nn.functional.softplus(logits) - clicks * logits
    return losses.sum() / impressions.sum()

