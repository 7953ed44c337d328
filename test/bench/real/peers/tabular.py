"""Logistic regression and LightGBM over encoded rows, tuned on the query rows of the validation tasks."""

import itertools
import time
from dataclasses import dataclass

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression

from target_encodings import encoded_rows
from metrics import logloss
from rows import Rows

SMOOTHINGS = (10.0, 50.0)
OWN_SMOOTHINGS = (5.0, 20.0, 80.0)
INVERSE_PENALTIES = (0.0003, 0.003, 0.03, 0.3, 3.0)
LIGHTGBM_ROUNDS_MAX = 1_000
LIGHTGBM_PATIENCE = 40
# Training rows that the smoothings are chosen on, so that large sets take no longer.
TUNING_ROWS_MAX = 150_000


@dataclass(frozen=True)
class Fitted:
    """The best of the settings that were tried."""

    settings: dict
    validation_logloss: float
    # Of all rows.
    probabilities: np.ndarray
    tried: int


def expanded(inputs: np.ndarray, rows: Rows, mask: np.ndarray):
    """A row for the clicks and one for the other impressions, weighted; weights have mean 1 over the rows."""
    clicks, others = rows.clicks[mask], (rows.impressions - rows.clicks)[mask]
    labels = np.concatenate([np.ones(len(clicks)), np.zeros(len(others))])
    weights = np.concatenate([clicks, others])
    kept = weights > 0
    taken = np.concatenate([inputs[mask], inputs[mask]])[kept]
    return taken, labels[kept], weights[kept] * mask.sum() / weights.sum()


def validation_logloss(rows: Rows, probabilities: np.ndarray) -> float:
    mask = rows.query_of("validation")
    return logloss(probabilities[mask], rows.clicks[mask], rows.impressions[mask])


def tuning_mask(rows: Rows, seed: int) -> np.ndarray:
    train = np.flatnonzero(rows.of_split("train"))
    if len(train) > TUNING_ROWS_MAX:
        train = np.random.default_rng(seed).choice(train, TUNING_ROWS_MAX, replace=False)
    mask = np.zeros(len(rows.tasks), dtype=bool)
    mask[train] = True
    return mask


def fit_logistic(rows: Rows, seed: int, seconds: float) -> Fitted:
    del seconds  # Its grid takes seconds.
    encoded = {
        pair: encoded_rows(rows, *pair, seed)
        for pair in itertools.product(SMOOTHINGS, OWN_SMOOTHINGS)
    }

    def tried(pair, inverse_penalty, mask):
        inputs = encoded[pair]
        scale = inputs[rows.of_split("train")].std(axis=0)
        scaled = inputs / np.where(scale > 0, scale, 1)
        taken, labels, weights = expanded(scaled, rows, mask)
        model = LogisticRegression(C=inverse_penalty, max_iter=300)
        model.fit(taken, labels, sample_weight=weights)
        probabilities = model.predict_proba(scaled)[:, 1]
        settings = {"smoothing": pair[0], "ownSmoothing": pair[1], "C": inverse_penalty}
        return Fitted(settings, validation_logloss(rows, probabilities), probabilities, 1)

    few = tuning_mask(rows, seed)
    pairs = {pair: tried(pair, INVERSE_PENALTIES[2], few) for pair in encoded}
    best_pair = min(pairs, key=lambda pair: pairs[pair].validation_logloss)
    finals = [tried(best_pair, c, rows.of_split("train")) for c in INVERSE_PENALTIES]
    best = min(finals, key=lambda fitted: fitted.validation_logloss)
    return Fitted(
        best.settings, best.validation_logloss, best.probabilities, len(pairs) + len(finals)
    )


def fit_lightgbm(rows: Rows, seed: int, seconds: float) -> Fitted:
    """A random search until the time is over; every trial stops early by the validation tasks."""
    end = time.monotonic() + seconds
    stream = np.random.default_rng(seed)
    encoded = {}
    best = None
    trials = 0
    while trials < 24 and (trials < 4 or time.monotonic() < end):
        trials += 1
        pair = (float(stream.choice(SMOOTHINGS)), float(stream.choice(OWN_SMOOTHINGS)))
        settings = {
            "num_leaves": int(stream.choice([3, 6, 12, 24])),
            "min_data_in_leaf": int(stream.choice([20, 60, 200])),
            "lambda_l2": float(stream.choice([0.1, 3, 30])),
            "feature_fraction": float(stream.choice([0.5, 0.8, 1.0])),
            "learning_rate": 0.05,
        }
        if pair not in encoded:
            encoded[pair] = encoded_rows(rows, *pair, seed)
        fitted = one_lightgbm(rows, encoded[pair], settings, seed)
        settings = {"smoothing": pair[0], "ownSmoothing": pair[1], **settings}
        if best is None or fitted[0] < best.validation_logloss:
            best = Fitted(settings, fitted[0], fitted[1], trials)
    return Fitted(best.settings, best.validation_logloss, best.probabilities, trials)


def one_lightgbm(rows: Rows, inputs: np.ndarray, settings: dict, seed: int):
    taken, labels, weights = expanded(inputs, rows, rows.of_split("train"))
    train = lightgbm.Dataset(taken, labels, weight=weights)
    held, held_labels, held_weights = expanded(inputs, rows, rows.query_of("validation"))
    validation = lightgbm.Dataset(held, held_labels, weight=held_weights, reference=train)
    model = lightgbm.train(
        {
            **settings,
            "objective": "binary",
            "num_threads": 1,
            "seed": seed,
            "deterministic": True,
            "verbosity": -1,
        },
        train,
        LIGHTGBM_ROUNDS_MAX,
        valid_sets=[validation],
        callbacks=[lightgbm.early_stopping(LIGHTGBM_PATIENCE, verbose=False)],
    )
    probabilities = model.predict(inputs)
    return validation_logloss(rows, probabilities), probabilities
