"""qianmo from Python: start a run on a DataFrame, read its results as DataFrames, ask a ranking server.

It calls the command `qianmo`, and reads the files of a run. The pages "start" and "serving" say what both do.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

__all__ = ["QianmoError", "RankingClient", "Run", "start"]

KEY_SEPARATOR = "\x1f"
"""Joins the values of an adgroup's key columns."""


Candidates = Union[Sequence[Mapping[str, Any]], Mapping[str, Any]]
"""One by one, or their columns: {"adgroup": [...], "bid": [...], "features": {"price": [...]}}"""


class QianmoError(Exception):
    """A command that failed, with what it printed, or a request that a server refused."""


def start(
    log: Union[pd.DataFrame, str, Path],
    *,
    folder: Union[str, Path],
    task: Optional[str] = None,
    label: Optional[str] = None,
    time: Optional[str] = None,
    trials_max: Optional[int] = None,
    command: Optional[Sequence[str]] = None,
) -> Run:
    """Goes from a log to a bundle: `qianmo start`, whose progress is printed as it comes.

    folder: receives the log, `run.yaml` and the run. A start that was stopped goes on when it is called again.
    command: the words of the command; by default those of the variable QIANMO, or `qianmo`.
    Raises QianmoError if the command fails.
    """
    place = Path(folder).resolve()
    place.mkdir(parents=True, exist_ok=True)
    if isinstance(log, pd.DataFrame):
        path = place / "log.parquet"
        log.to_parquet(path, index=False)
    else:
        path = Path(log).resolve()
    given = {"--task": task, "--label": label, "--time": time, "--trials": trials_max}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    words = list(command or shlex.split(os.environ.get("QIANMO", "qianmo")))
    done = subprocess.run(
        [*words, "start", str(path), "--name", "run", "--format", "json", *options],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise QianmoError(f"qianmo start ended with exit code {done.returncode}")
    return Run(place / "runs" / "run")


class Run:
    """What a run has written: a run of `start` or `auto`, or one of `train` and `evaluate`."""

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)

    def sweep(self) -> pd.DataFrame:
        """A row for each trial of the search: its settings and its logloss on the validation adgroups."""
        return pd.DataFrame(
            {
                "trial": trial["name"],
                **trial["settings"],
                "validationLogloss": trial["scores"][-1]["validationLogloss"] if trial["scores"] else None,
            }
            for trial in self._search()["trials"]
        )

    def report(self) -> pd.DataFrame:
        """A row for each arm and size of adgroup: the metrics on the test adgroups."""
        report = _read(self._evaluated() / "evaluation.json")
        return pd.DataFrame(
            {
                **{"slice": part["name"], "adgroups": part["adgroupCount"], "rows": part["queryRowCount"]},
                "arm": result["arm"],
                **{name: value for name, value in result["metrics"].items() if not isinstance(value, (dict, list))},
            }
            for part in report["slices"]
            for result in part["arms"]
        )

    def predictions(self) -> pd.DataFrame:
        """A row for each row of the test adgroups.

        Columns: adgroup (the values of several key columns joined with U+001F), logRow (the place of the row in the
        log, from 0), supportRows, clicks, impressions, and the predicted probability of each arm.
        """
        arrays = load_file(self._evaluated() / "test-logits.safetensors")
        keys = json.loads(arrays["task/keys"].tobytes())
        counts = np.diff(arrays["task/starts"])
        arms = {name: values for name, values in arrays.items() if name.startswith("logits/")}
        return pd.DataFrame(
            {
                "adgroup": np.repeat([key if isinstance(key, str) else KEY_SEPARATOR.join(key) for key in keys], counts),
                "logRow": arrays["row/logRows"].astype(np.int64),
                "supportRows": np.repeat(arrays["task/supportRowCounts"], counts),
                "clicks": arrays["row/clicks"],
                "impressions": arrays["row/impressions"],
                **{name[len("logits/") :]: 1 / (1 + np.exp(-values.astype(np.float64))) for name, values in arms.items()},
            }
        )

    def _search(self) -> Mapping[str, Any]:
        folders = [self.path / "auto", self.path]
        for folder in folders:
            if (folder / "auto.json").exists():
                return _read(folder / "auto.json")
        raise QianmoError(f"{self.path} holds no search: there is no auto.json")

    def _evaluated(self) -> Path:
        """The folder of the run whose evaluation counts: this one, or the best trial of its search."""
        if (self.path / "evaluation.json").exists():
            return self.path
        best = self._search()["best"]
        search = self.path / "auto" if (self.path / "auto" / "auto.json").exists() else self.path
        return search / "trials" / best["trial"]


class RankingClient:
    """Asks a server that `qianmo serve` runs.

    url: such as http://127.0.0.1:8080
    token: the content of its --token-file.
    """

    def __init__(self, url: str, *, token: Optional[str] = None, timeout_s: float = 1.0):
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout_s = timeout_s

    def rank(self, candidates: Candidates, context: Mapping[str, Any], **options: Any) -> dict:
        """The answer of /v1/rank: `order` has the places of the candidates, the best first."""
        return self._posted("/v1/rank", {"candidates": candidates, "context": dict(context), **options})

    def feedback(self, events: Sequence[Mapping[str, Any]]) -> dict:
        """The answer of /v1/feedback: what became of rankings that were explored."""
        return self._posted("/v1/feedback", {"events": list(events)})

    def _posted(self, path: str, body: Mapping[str, Any]) -> dict:
        data = json.dumps(body, default=_number).encode()
        request = urllib.request.Request(self._url + path, data, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise QianmoError(f"{path} was refused with {error.code}: {error.read().decode()}") from None


def _number(value: Any) -> Any:
    """Numbers and columns of a DataFrame, which JSON does not know."""
    if isinstance(value, (np.generic, np.ndarray, pd.Series)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _read(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
