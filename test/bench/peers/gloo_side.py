"""W2 in processes that exchange gradients by collectives of torch.distributed over gloo.

The layers are summed by an all-reduce. The rows of the table are gathered from all processes, padded
to the longest, since each process touches other ids.
"""

import os
import tempfile
import time

START = time.perf_counter()

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.multiprocessing as multiprocessing  # noqa: E402

from distributed_shard import Shard  # noqa: E402
from side import Workload, arguments, serve  # noqa: E402


def join_group(given, rank, meeting):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=given["workerCount"]
    )


def step(shard, worker_count, index):
    ids, rows, flat = shard.gradients(index)
    if worker_count == 1:
        shard.apply([(ids, rows)], flat)
        return
    flat = flat.clone()
    summing = dist.all_reduce(flat, async_op=True)
    counts = [torch.zeros(1, dtype=torch.long) for _ in range(worker_count)]
    dist.all_gather(counts, torch.tensor([len(ids)]))
    longest = max(int(count) for count in counts)
    sent_ids, sent_rows = torch.zeros(longest, dtype=torch.long), torch.zeros(longest, shard.width)
    sent_ids[: len(ids)] = ids
    sent_rows[: len(ids)] = rows
    all_ids = [torch.empty_like(sent_ids) for _ in range(worker_count)]
    all_rows = [torch.empty_like(sent_rows) for _ in range(worker_count)]
    dist.all_gather(all_ids, sent_ids)
    dist.all_gather(all_rows, sent_rows)
    summing.wait()
    parts = [(i[: int(n)], r[: int(n)]) for i, r, n in zip(all_ids, all_rows, counts)]
    shard.apply(parts, flat)


def follow(given, rank, meeting, orders):
    """Takes the steps that process 0 announces, until it announces none."""
    shard = Shard(given, rank)
    join_group(given, rank, meeting)
    while (index := orders.recv()) is not None:
        step(shard, given["workerCount"], index)
    dist.destroy_process_group()


class GlooSide:
    def __init__(self, given, meeting):
        self.shard = Shard(given, 0)
        self.worker_count = given["workerCount"]
        self.orders = []
        self.followers = []
        spawning = multiprocessing.get_context("spawn")
        for rank in range(1, self.worker_count):
            theirs, ours = spawning.Pipe(duplex=False)
            follower = spawning.Process(
                target=follow, args=(given, rank, meeting, theirs), daemon=True
            )
            follower.start()
            self.orders.append(ours)
            self.followers.append(follower)
        join_group(given, 0, meeting)

    def step(self, index):
        for orders in self.orders:
            orders.send(index)
        step(self.shard, self.worker_count, index)

    def layers(self):
        return self.shard.layers()

    def table(self):
        return self.shard.table()

    def end(self):
        for orders in self.orders:
            orders.send(None)
        dist.destroy_process_group()
        for follower in self.followers:
            follower.join()


def main():
    given = arguments()
    with tempfile.TemporaryDirectory() as folder:
        side = GlooSide(given, os.path.join(folder, "meeting"))
        workload = Workload(given["folder"], given["cell"])
        serve(workload, side, {"torch": torch.__version__}, START)
        side.end()


if __name__ == "__main__":
    main()
