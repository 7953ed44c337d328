"""Estimates of sb-obp for the choices of a JSON file: the reference of `npm run bench -- ope`.

python reference.py policy CAMPAIGN            the choice probabilities of Bernoulli Thompson sampling, [item][position]
python reference.py estimate CHOICES.json      the estimates for logged choices
"""

import json
import sys

import numpy as np


def choice_probabilities(campaign):
    from obp.policy import BernoulliTS

    item_count = {"men": 34, "women": 46}[campaign]
    policy = BernoulliTS(
        n_actions=item_count,
        len_list=3,
        is_zozotown_prior=True,
        campaign=campaign,
        random_state=12345,
    )
    return policy.compute_batch_action_dist(n_sim=100_000, n_rounds=1)[0].tolist()


def estimates(path):
    from obp.ope import (
        DirectMethod,
        DoublyRobust,
        InverseProbabilityWeighting,
        SelfNormalizedInverseProbabilityWeighting,
        SwitchDoublyRobust,
    )

    with open(path) as file:
        told = json.load(file)
    reward = np.array(told["rewards"], dtype=float)
    count = len(reward)
    target = np.array(told["target"], dtype=float)
    model = np.array(told["model"], dtype=float)
    logged = {
        "reward": reward,
        "action": np.array(told["items"]),
        "position": np.array(told["positions"]),
        "pscore": np.array(told["propensities"], dtype=float),
        "action_dist": np.repeat(target[np.newaxis], count, axis=0),
    }
    expected = np.repeat(
        np.repeat(model[:, np.newaxis], target.shape[1], axis=1)[np.newaxis],
        count,
        axis=0,
    )
    without_model = {
        "ips": InverseProbabilityWeighting(),
        "snips": SelfNormalizedInverseProbabilityWeighting(),
    }
    with_model = {
        "direct": DirectMethod(),
        "dr": DoublyRobust(),
        "switch-dr": SwitchDoublyRobust(lambda_=told["switchWeight"]),
    }
    found = {
        name: estimator.estimate_policy_value(**logged)
        for name, estimator in without_model.items()
    }
    for name, estimator in with_model.items():
        found[name] = estimator.estimate_policy_value(
            **logged, estimated_rewards_by_reg_model=expected
        )
    return {name: float(value) for name, value in found.items()}


if sys.argv[1] == "policy":
    print(json.dumps(choice_probabilities(sys.argv[2])))
else:
    print(json.dumps(estimates(sys.argv[2])))
