"""Target encodings across tasks and the evidence of a row's own task: the inputs of the logistic regression and of LightGBM.

No encoding of a row sees a label of its own task, and its own task's evidence never includes the row itself.
Target encodings: Micci-Barreca (SIGKDD Explorations 3(1), 2001), equation 3.
"""

import numpy as np
import pandas as pd

from rows import Field, Rows

FOLDS = 5


def log_odds(rate):
    return np.log(rate) - np.log1p(-rate)


def click_rate(rows: Rows) -> float:
    """Of the training rows, kept inside (0, 1)."""
    train = rows.of_split("train")
    return (rows.clicks[train].sum() + 0.5) / (rows.impressions[train].sum() + 1)


def own_task(rows: Rows, smoothing: float, seed: int) -> np.ndarray:
    """The log odds of the smoothed rate of the task's evidence, less those of the click rate, and the log count: [row_count, 2].

    The evidence of a query row is the task's support rows. That of a support row, which only matters in training, is as many
    query rows of its task: a rate that leaves out one row tells a model that knows the task what the row's label is.
    """
    prior = click_rate(rows)
    of_query = evidence(rows, rows.is_support)
    of_support = evidence(rows, drawn_query(rows, seed))
    clicks, shown = np.where(rows.is_support, of_support, of_query)
    rate = (clicks + smoothing * prior) / (shown + smoothing)
    return np.column_stack([log_odds(rate) - log_odds(prior), np.log1p(shown)])


def evidence(rows: Rows, chosen: np.ndarray) -> np.ndarray:
    """Clicks and impressions of the chosen rows of each row's task: [2, row_count]."""
    chosen = chosen & rows.has_task
    columns = (rows.clicks * chosen, rows.impressions * chosen)
    return np.stack([sums_by(rows.tasks, of, rows.task_count)[rows.tasks] for of in columns])


def drawn_query(rows: Rows, seed: int) -> np.ndarray:
    """As many query rows of each training task as it has support rows, or all if it has fewer."""
    query = np.flatnonzero(rows.query_of("train"))
    query = np.random.default_rng(seed).permutation(query)
    query = query[np.argsort(rows.tasks[query], kind="stable")]
    tasks = rows.tasks[query]
    starts = np.searchsorted(tasks, tasks)
    support_counts = sums_by(rows.tasks, rows.is_support.astype(float), rows.task_count)
    mask = np.zeros(len(rows.tasks), dtype=bool)
    mask[query[np.arange(len(query)) - starts < support_counts[tasks]]] = True
    return mask


def sums_by(groups: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(groups, weights=values, minlength=count)


def folds_of(rows: Rows, seed: int) -> np.ndarray:
    """A fold of each row, the same within a task; -1 for rows of held-out tasks, which see all training tasks."""
    drawn = np.random.default_rng(seed).integers(0, FOLDS, rows.task_count)
    return np.where(rows.of_split("train"), drawn[rows.tasks], -1)


def target_encoding(rows: Rows, field: Field, smoothing: float, folds: np.ndarray) -> np.ndarray:
    """By the value of a category or the members of a bag: mean log odds against the click rate, and mean log count: [row_count, 2]."""
    prior = click_rate(rows)
    owners, members = members_of(rows, field)
    codes, values = pd.factorize(members)
    count = len(values)
    train = rows.of_split("train")[owners]
    clicks, shown = rows.clicks[owners] * train, rows.impressions[owners] * train
    encoded = np.zeros((len(rows.tasks), 2))
    for fold in range(-1, FOLDS):
        kept = folds[owners] != fold
        rate_clicks = sums_by(codes, clicks * kept, count)
        rate_shown = sums_by(codes, shown * kept, count)
        by_value = np.column_stack(
            [
                log_odds((rate_clicks + smoothing * prior) / (rate_shown + smoothing))
                - log_odds(prior),
                np.log1p(rate_shown),
            ]
        )
        mine = folds[owners] == fold
        size = np.maximum(sums_by(owners[mine], np.ones(mine.sum()), len(rows.tasks)), 1)
        for column in range(2):
            values_of_members = by_value[codes[mine], column]
            encoded[:, column] += sums_by(owners[mine], values_of_members, len(rows.tasks)) / size
    return encoded


def members_of(rows: Rows, field: Field) -> tuple[np.ndarray, np.ndarray]:
    """A row for each value of a bag: the index of its row, and the value."""
    column = rows.columns[field.name]
    if field.kind == "category":
        return np.arange(len(column)), column
    lengths = np.array([len(members) for members in column])
    flat = [member for members in column for member in members]
    return np.repeat(np.arange(len(column)), lengths), np.array(flat, dtype=object)


def encoded_rows(rows: Rows, smoothing: float, own_smoothing: float, seed: int) -> np.ndarray:
    """All inputs: encodings of categories and bags, standardised numbers, and the own task's evidence."""
    folds = folds_of(rows, seed)
    columns = [own_task(rows, own_smoothing, seed)]
    for field in rows.fields:
        if field.kind == "number":
            columns.append(standardised(rows, rows.columns[field.name])[:, None])
        else:
            columns.append(target_encoding(rows, field, smoothing, folds))
    return np.column_stack(columns)


def standardised(rows: Rows, values: np.ndarray) -> np.ndarray:
    train = values[rows.of_split("train")]
    return (values - train.mean()) / (train.std() or 1.0)
