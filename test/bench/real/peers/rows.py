"""The rows of a cell, as the bench wrote them for every side: `rows.csv`, `split.csv` and `fields.json`."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Field:
    name: str
    # category, bag or number
    kind: str
    # Values in fewer training rows share one embedding.
    count_min: int = 1
    separator: str = "|"


@dataclass(frozen=True)
class Rows:
    """The rows that the split names. Arrays are parallel, [row_count]."""

    fields: list[Field]
    # The number of the row in rows.csv.
    numbers: np.ndarray
    # From 0, in the order of the tasks' keys.
    tasks: np.ndarray
    task_count: int
    # The index of the split in SPLITS.
    splits: np.ndarray
    is_support: np.ndarray
    # Whether the row belongs to a task; the others only teach what all tasks share.
    has_task: np.ndarray
    clicks: np.ndarray
    impressions: np.ndarray
    # By field: text of categories, lists of members of bags, floats of numbers.
    columns: dict[str, np.ndarray]

    def of_split(self, split: str) -> np.ndarray:
        return self.splits == SPLITS.index(split)

    def query_of(self, split: str) -> np.ndarray:
        return self.of_split(split) & ~self.is_support & self.has_task


def read_rows(folder: Path) -> Rows:
    described = json.loads((folder / "fields.json").read_text())
    fields = [
        Field(f["name"], f["kind"], f.get("countMin", 1), f.get("separator", "|"))
        for f in described["features"]
    ]
    log = pd.read_csv(described["log"], dtype=str, keep_default_na=False)
    split = pd.read_csv(folder / "split.csv", dtype=str, keep_default_na=False)
    split["row"] = split["row"].astype(np.int64)
    split = split.sort_values("row", kind="stable")
    chosen = log.iloc[split["row"].to_numpy()]
    keys = chosen[described["task"]].to_numpy()
    if not (keys == split["task"].to_numpy()).all():
        raise ValueError("split.csv and rows.csv name different tasks for a row")
    _, tasks = np.unique(keys, return_inverse=True)
    roles = split["role"].str.split("-", n=1, expand=True)
    parts = roles[1] if 1 in roles.columns else pd.Series([None] * len(split))
    return Rows(
        fields=fields,
        numbers=split["row"].to_numpy(),
        tasks=tasks,
        task_count=int(tasks.max()) + 1,
        splits=np.array([SPLITS.index(name) for name in roles[0]]),
        is_support=(parts == "support").to_numpy(),
        has_task=parts.notna().to_numpy(),
        clicks=chosen["clicks"].astype(float).to_numpy(),
        impressions=chosen["impressions"].astype(float).to_numpy(),
        columns={field.name: column_of(field, chosen[field.name]) for field in fields},
    )


def column_of(field: Field, texts: pd.Series) -> np.ndarray:
    if field.kind == "number":
        values = pd.to_numeric(texts, errors="coerce")
        return values.fillna(values.mean()).to_numpy(dtype=float)
    if field.kind == "bag":
        lists = np.empty(len(texts), dtype=object)
        lists[:] = [
            [member for member in text.split(field.separator) if member] for text in texts
        ]
        return lists
    return texts.to_numpy(dtype=object)
