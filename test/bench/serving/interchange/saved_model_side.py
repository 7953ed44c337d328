"""Scores of SavedModels by Python TensorFlow: reads cases from standard input, writes their outputs as JSON."""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

found = []
for case in json.load(sys.stdin):
    signature = tf.saved_model.load(case["folder"]).signatures["serving_default"]
    feeds = {
        each["name"]: tf.reshape(tf.constant(each["values"], dtype=each["type"]), each["shape"])
        for each in case["inputs"]
    }
    outputs = signature(**feeds)
    found.append({name: outputs[name].numpy().tolist() for name in ("score", "expected")})
json.dump({"version": tf.__version__, "found": found}, sys.stdout)
