"""The shared parts of the Python sides: the workload files and the messages with the runner.

A side is started by the runner as `python SIDE.py '{"folder": ..., "cell": ..., "variant": ...,
"threadCount": ...}'`. It reports that it is ready, then answers commands, one JSON line each:
{"kind": "check", "folder": F}  one step from the initial values on batch 0, with its results written into F
{"kind": "run", "durationMs": N}  steps over the batches in turn for N milliseconds
{"kind": "end"}
"""

import json
import os
import resource
import statistics
import sys
import time

import numpy as np

STEP_COUNT_MIN = 3


class Workload:
    """The shapes and arrays of one cell, as the runner described and wrote them."""

    def __init__(self, folder, cell):
        self.folder = folder
        self.name, self.order, steps = cell.split(".")
        self.inner_steps = int(steps)
        with open(os.path.join(folder, "workloads.json"), encoding="utf8") as file:
            self.description = json.load(file)
        shape = self.description["workloads"][self.name]
        self.task_count = shape["taskCount"]
        self.widths = shape["widths"]
        self.trunk_size = 2 * shape["trunkLayerCount"]
        self.table_shape = shape["table"]
        self.batch_count = self.description["batchCount"]
        self.inner_rate = self.description["innerRate"]
        self.meta_rate = self.description["metaRate"] / self.task_count

    def array(self, name):
        entry = self.description["arrays"][f"{self.name}.{name}"]
        values = np.fromfile(os.path.join(self.folder, entry["file"]), dtype=entry["dtype"])
        return values.reshape(entry["shape"])

    def layer_names(self):
        return [f"{part}{i}" for i in range(len(self.widths) - 1) for part in ("weight", "bias")]

    def layers(self):
        return [self.array(name) for name in self.layer_names()]

    def batch(self, index):
        """Support features, support labels, query features, query labels."""
        features = "Inputs" if self.table_shape is None else "Ids"
        names = [f"support{features}", "supportLabels", f"query{features}", "queryLabels"]
        return [self.array(f"batch{index}.{name}") for name in names]

    def batches(self):
        return [self.batch(index) for index in range(self.batch_count)]


def arguments():
    return json.loads(sys.argv[1])


def _send(**reply):
    print(json.dumps(reply), flush=True)


def _cpu_ms():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (usage.ru_utime + usage.ru_stime)


def _resident_mib():
    with open("/proc/self/statm", encoding="ascii") as file:
        return round(int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20)


def _time_steps(step, first_batch, duration_ms):
    step(first_batch)
    times = []
    cpu_before = _cpu_ms()
    start = end = time.perf_counter()
    while len(times) < STEP_COUNT_MIN or (end - start) * 1000 < duration_ms:
        step(first_batch + 1 + len(times))
        now = time.perf_counter()
        times.append((now - end) * 1000)
        end = now
    return {
        "medianMs": statistics.median(times),
        "minMs": min(times),
        "stepCount": len(times),
        "wallMs": (end - start) * 1000,
        "cpuMs": _cpu_ms() - cpu_before,
        "residentMiB": _resident_mib(),
    }


def _check(workload, side, folder):
    start = time.perf_counter()
    side.step(0)
    first_step_ms = (time.perf_counter() - start) * 1000
    for name, values in zip(workload.layer_names(), side.layers()):
        values.astype("<f4").tofile(os.path.join(folder, f"{name}.bin"))
    changed = 0
    if workload.table_shape is not None:
        after, before = side.table(), workload.array("table")
        touched = workload.array("batch0.touchedIds")
        after[touched].astype("<f4").tofile(os.path.join(folder, "touchedRows.bin"))
        differs = (after != before).any(axis=1)
        differs[touched] = False
        changed = int(differs.sum())
    _send(kind="checked", otherRowsChanged=changed, firstStepMs=first_step_ms)


def serve(workload, side, versions, start):
    """`side` has step(batch_index), layers() and, with a table, table(); the last two return numpy arrays."""
    _send(kind="ready", versions=versions, startMs=(time.perf_counter() - start) * 1000)
    next_batch = 0
    for line in sys.stdin:
        command = json.loads(line)
        if command["kind"] == "end":
            break
        try:
            if command["kind"] == "check":
                _check(workload, side, command["folder"])
            else:
                timed = _time_steps(side.step, next_batch, command["durationMs"])
                next_batch += timed["stepCount"] + 1
                _send(kind="timed", **timed)
        except Exception as error:  # the runner reports it and continues without this variant
            _send(kind="failed", message=f"{type(error).__name__}: {error}"[:400])
