"""Values that the chart must refuse: refused_values.py CHART"""

import sys

import helm_python as helm

REFUSED = {
    "a field that nobody knows": {"run": {"config": "x", "outerSteps": 2}},
    "a field of a pool that nobody knows": {"run": {"config": "x"}, "pools": {"cpu": {"workers": 2}}},
    "another device": {"run": {"config": "x"}, "pools": {"cpu": {"device": "tpu"}}},
    "a store at a wrong address": {"run": {"config": "x"}, "pools": {"cpu": {"storeAllow": ["http://x"]}}},
    "a run without a config": {"run": {"config": ""}},
    "a run with two configs": {"run": {"config": "x", "existingConfigMap": "y"}},
    "servers without a bundle": {"run": {"config": "x"}, "server": {"enabled": True}},
    "a run without steps": {"run": {"config": "x", "steps": []}},
    "a refresh without a config": {"run": {"enabled": False}, "refresh": {"enabled": True}},
    "served rows without a state": {
        "run": {"enabled": False},
        "server": {"enabled": True, "bundle": "/data/b", "rows": "/data/rows"},
    },
    "exploration without a policy": {
        "run": {"enabled": False},
        "server": {
            "enabled": True,
            "bundle": "/data/b",
            "state": {"size": "1Gi"},
            "explore": {"enabled": True},
        },
    },
    "shared evidence of nothing": {
        "run": {"enabled": False},
        "server": {"enabled": True, "bundle": "/data/b", "evidenceInRedis": True},
    },
    "scaling without a run": {
        "run": {"enabled": False},
        "pools": {"cpu": {"scaling": {"enabled": True}}},
    },
}


def main(folder: str) -> None:
    chart = helm.Chart.load(folder)
    accepted = []
    for what, values in REFUSED.items():
        try:
            chart.validate_schema(values)
            chart.render(values, name="qianmo", namespace="ads")
            accepted.append(what)
        except helm.HelmError:
            pass
    if accepted:
        sys.exit(f"not refused: {', '.join(accepted)}")
    # One that is right, so that the refusals are not those of everything.
    chart.render({"run": {"config": "x"}}, name="qianmo", namespace="ads")
    print(f"{len(REFUSED)} refused")


main(sys.argv[1])
