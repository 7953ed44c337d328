"""One peer on one cell: reads the cell's folder, writes `ARM.csv` (row, probability of its test query rows) and prints a summary.

    python peer.py FOLDER logistic|lightgbm|deepfm|deepfm-support SEED SECONDS
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from metrics import auc, logloss
from rows import Rows, read_rows


def summary_of(folder: Path, arm: str, rows: Rows, probabilities, validation_logloss, settings):
    test = rows.query_of("test")
    probabilities = np.asarray(probabilities, dtype=float)
    with open(folder / f"{arm}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "probability"])
        for row, probability in zip(rows.numbers[test], probabilities[test], strict=True):
            writer.writerow([row, repr(float(probability))])
    columns = probabilities[test], rows.clicks[test], rows.impressions[test]
    return {
        "arm": arm,
        "validationLogloss": validation_logloss,
        "logloss": logloss(*columns),
        "auc": auc(*columns),
        "settings": settings,
    }


def tabular(folder: Path, name: str, rows: Rows, seed: int, seconds: float):
    import tabular as models

    fit = {"logistic": models.fit_logistic, "lightgbm": models.fit_lightgbm}[name]
    fitted = fit(rows, seed, seconds)
    settings = {**fitted.settings, "tried": fitted.tried}
    return [
        summary_of(
            folder, name, rows, fitted.probabilities, fitted.validation_logloss, settings
        )
    ]


def deep(folder: Path, name: str, rows: Rows, seed: int, seconds: float):
    import torch

    from deepfm import logits_of
    from finetuning import fine_tune
    from training import search

    torch.set_num_threads(1)
    trained = search(rows, seed, seconds, with_support=name == "deepfm-support")
    logits = logits_of(trained.model, trained.inputs, torch.arange(len(rows.tasks)))
    settings = {**trained.settings, "tried": trained.trials}
    probabilities = torch.sigmoid(logits.double()).numpy()
    summaries = [
        summary_of(folder, name, rows, probabilities, trained.validation_logloss, settings)
    ]
    tuned = fine_tune(trained, rows, seed)
    adapted = 1 / (1 + np.exp(-tuned.logits))
    arm = f"{name}-finetuned"
    summaries.append(
        summary_of(folder, arm, rows, adapted, tuned.validation_logloss, tuned.settings)
    )
    return summaries


if __name__ == "__main__":
    _, path, peer, seed_text, seconds_text = sys.argv
    run = deep if peer.startswith("deepfm") else tabular
    cell = read_rows(Path(path))
    found = run(Path(path), peer, cell, int(seed_text), float(seconds_text))
    print(json.dumps({"summaries": found}))
