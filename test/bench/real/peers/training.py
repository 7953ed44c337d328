"""Training of the DeepFM with early stopping on validation tasks, and a random search over its settings."""

import copy
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch

from deepfm import DeepFM, Inputs, Settings, inputs_of, logits_of, loss_of
from rows import Rows
from target_encodings import click_rate

PATIENCE = 4
EPOCHS_MAX = 60
# Steps between two looks at the validation rows; fewer where an epoch has fewer.
STEPS_BETWEEN_SCORES = 150
TRIALS_MIN = 3
TRIALS_MAX = 16


@dataclass(frozen=True)
class Trained:
    model: DeepFM
    inputs: Inputs
    settings: dict
    validation_logloss: float
    trials: int


@dataclass(frozen=True)
class Labels:
    clicks: torch.Tensor
    impressions: torch.Tensor


def labels_of(rows: Rows) -> Labels:
    def tensor(values):
        return torch.tensor(values, dtype=torch.float32)

    return Labels(tensor(rows.clicks), tensor(rows.impressions))


def drawn_settings(stream: np.random.Generator, trial: int) -> Settings:
    """The first trial has settings that are often good; the others are drawn."""
    if trial == 0:
        return Settings(8, (64, 32), dropout=0.2, id_dropout=0.1, decay=1e-5, rate=2e-3)
    return Settings(
        width=int(stream.choice([4, 8, 16])),
        hidden=((32, 16), (64, 32), (128, 64))[stream.integers(3)],
        dropout=float(stream.choice([0.0, 0.2, 0.5])),
        id_dropout=float(stream.choice([0.0, 0.1, 0.3])),
        decay=float(stream.choice([1e-6, 1e-5, 1e-4, 1e-3])),
        rate=float(stream.choice([1e-3, 3e-3])),
        batch=int(stream.choice([256, 1024])),
    )


def search(rows: Rows, seed: int, seconds: float, with_support: bool) -> Trained:
    end = time.monotonic() + seconds
    stream = np.random.default_rng(seed)
    inputs, labels = inputs_of(rows, with_support, seed), labels_of(rows)
    best = None
    trials = 0
    while trials < TRIALS_MAX and (trials < TRIALS_MIN or time.monotonic() < end):
        settings = drawn_settings(stream, trials)
        torch.manual_seed(seed * 1000 + trials)
        # The least trials are trained to their end, however long it takes: on a busy machine the time is over before.
        until = np.inf if trials < TRIALS_MIN else end
        model, loss = trained(rows, inputs, labels, settings, until)
        trials += 1
        if best is None or loss < best.validation_logloss:
            best = Trained(model, inputs, asdict(settings), loss, trials)
    return Trained(best.model, inputs, best.settings, best.validation_logloss, trials)


def trained(rows: Rows, inputs: Inputs, labels: Labels, settings: Settings, end: float):
    """The model with the lowest logloss on the validation query rows, and that logloss."""
    model = DeepFM(inputs, settings, click_rate(rows))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.rate, weight_decay=settings.decay)
    train = torch.tensor(np.flatnonzero(rows.of_split("train")))
    held = torch.tensor(np.flatnonzero(rows.query_of("validation")))
    score_every = min(STEPS_BETWEEN_SCORES, -(-len(train) // settings.batch))
    mean_weight = labels.impressions[train].mean()
    best_loss, best_state, worse, step = np.inf, None, 0, 0
    for epoch in range(EPOCHS_MAX):
        for batch in train[torch.randperm(len(train))].split(settings.batch):
            model.train()
            optimizer.zero_grad()
            logits = model(*inputs.take(batch))
            clicks, shown = labels.clicks[batch], labels.impressions[batch]
            losses = shown * torch.nn.functional.softplus(logits) - clicks * logits
            # Divided by the mean over all rows, so that every impression weighs the same in every batch.
            (losses.mean() / mean_weight).backward()
            optimizer.step()
            step += 1
            if step % score_every:
                continue
            held_logits = logits_of(model, inputs, held)
            loss = float(loss_of(held_logits, labels.clicks[held], labels.impressions[held]))
            if loss < best_loss:
                best_loss, best_state, worse = loss, copy.deepcopy(model.state_dict()), 0
            else:
                worse += 1
            if worse >= PATIENCE:
                break
        # Another trial that is far over the time ends with its best state.
        if worse >= PATIENCE or (epoch > 0 and time.monotonic() > end):
            break
    model.load_state_dict(best_state)
    return model, best_loss

