"""Logloss and AUC of predicted probabilities against counts, in plain Python, to be held against the bench's own.

    echo '{"probabilities": [...], "clicks": [...], "impressions": [...]}' | python3 metrics.py
"""

import json
import math
import sys
from itertools import groupby

# Beyond it, a probability counts as this close to 0 or 1.
PROBABILITY_MIN = 1e-7


def logloss(probabilities, clicks, impressions):
    """The mean over impressions, in nats."""
    total = 0.0
    for p, c, n in zip(probabilities, clicks, impressions, strict=True):
        p = min(max(p, PROBABILITY_MIN), 1 - PROBABILITY_MIN)
        total -= c * math.log(p) + (n - c) * math.log1p(-p)
    return total / math.fsum(impressions)


def auc(probabilities, clicks, impressions):
    """The chance that a click scores above another impression, where ties count half; None with one class only."""
    rows = sorted(zip(probabilities, clicks, impressions, strict=True))
    clicks_seen = others_seen = wins = 0.0
    for _, tied in groupby(rows, key=lambda row: row[0]):
        group = list(tied)
        clicked = sum(c for _, c, _ in group)
        others = sum(n - c for _, c, n in group)
        wins += clicked * (others_seen + others / 2)
        clicks_seen += clicked
        others_seen += others
    return wins / (clicks_seen * others_seen) if clicks_seen and others_seen else None


if __name__ == "__main__":
    given = json.load(sys.stdin)
    columns = given["probabilities"], given["clicks"], given["impressions"]
    print(json.dumps({"logloss": logloss(*columns), "auc": auc(*columns)}))
