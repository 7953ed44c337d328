"""W2 in Ray actors. The driver sums the layers, and sends the gradients of all to every actor.

A step sends what the step before has summed, so that each costs one call of every actor.
"""

import os
import time

START = time.perf_counter()

import ray  # noqa: E402
import torch  # noqa: E402

from distributed_shard import Shard  # noqa: E402
from side import Workload, arguments, serve  # noqa: E402

OBJECT_STORE_BYTES = 500_000_000


class Worker(Shard):
    def apply_sum(self, update):
        if update is None:
            return
        parts, flat = update
        tensors = [(torch.from_numpy(ids), torch.from_numpy(rows)) for ids, rows in parts]
        self.apply(tensors, torch.from_numpy(flat))

    def step(self, index, update):
        self.apply_sum(update)
        return tuple(x.numpy() for x in self.gradients(index))

    def state(self, update):
        self.apply_sum(update)
        return self.layers(), self.table()


class RaySide:
    def __init__(self, given):
        ray.init(
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=given["scratch"],
        )
        actor = ray.remote(num_cpus=1)(Worker)
        self.actors = [actor.remote(given, rank) for rank in range(given["workerCount"])]
        self.update = None
        self.last_state = None
        ray.get([actor.__ray_ready__.remote() for actor in self.actors])

    def step(self, index):
        update = self._sent_update()
        found = ray.get([actor.step.remote(index, update) for actor in self.actors])
        flat = sum(layers for _, _, layers in found)
        self.update = ([(ids, rows) for ids, rows, _ in found], flat)
        self.last_state = None

    def _sent_update(self):
        return None if self.update is None else ray.put(self.update)

    def _state(self):
        if self.last_state is None:
            update = self._sent_update()
            states = ray.get([actor.state.remote(update) for actor in self.actors])
            self.update = None
            self.last_state = states[-1]
        return self.last_state

    def layers(self):
        return self._state()[0]

    def table(self):
        return self._state()[1]


def main():
    given = arguments()
    side = RaySide(given)
    versions = {"ray": ray.__version__, "torch": torch.__version__}
    serve(Workload(given["folder"], given["cell"]), side, versions, START)
    ray.shutdown()


if __name__ == "__main__":
    main()
