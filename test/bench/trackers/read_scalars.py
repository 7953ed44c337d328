"""Prints the scalars that the reader of TensorBoard's server finds below a folder, as JSON."""

import json
import sys

from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.util import tensor_util

multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 0})
multiplexer.AddRunsFromDirectory(sys.argv[1])
multiplexer.Reload()
found = {}
for run, kinds in multiplexer.Runs().items():
    # It turns simple values into tensors that belong to the plugin of scalars.
    found[run] = {
        tag: [[event.step, float(tensor_util.make_ndarray(event.tensor_proto))] for event in multiplexer.Tensors(run, tag)]
        for tag in kinds["tensors"]
        if multiplexer.SummaryMetadata(run, tag).plugin_data.plugin_name == "scalars"
    }
json.dump(found, sys.stdout)
