"""JAX on the workloads: one jitted meta step, tasks by vmap, state donated.

The table's update finds the unique ids outside of the jitted function with numpy and sums by them. Adding every
occurrence is not accurate; a dense gradient of the table and unique ids inside of the function were slower in every cell.
"""

import os
import time

START = time.perf_counter()

from side import Workload, arguments, serve  # noqa: E402

ARGUMENTS = arguments()
os.environ["JAX_PLATFORMS"] = "cpu"
if ARGUMENTS["threadCount"] == 1:
    one_thread = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one_thread}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

PACK_ROWS_STEP = 4096


def forward(layers, x, ends_in_relu=False):
    for start in range(0, len(layers), 2):
        x = x @ layers[start] + layers[start + 1]
        if ends_in_relu or start + 2 < len(layers):
            x = jax.nn.relu(x)
    return x


def task_loss(layers, features, labels):
    """Mean cross entropy; the softplus is written explicitly."""
    logits = forward(layers, features)[:, 0]
    positive = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return jnp.mean(positive - logits * labels)


def adapted(workload, layers, features, labels):
    gradient_of = jax.grad(task_loss)
    for _ in range(workload.inner_steps):
        gradients = gradient_of(layers, features, labels)
        if workload.order == "first":
            gradients = jax.lax.stop_gradient(gradients)
        layers = [a - workload.inner_rate * b for a, b in zip(layers, gradients)]
    return layers


def outer_loss(workload, layers, support, support_labels, query, query_labels):
    def of_task(own_support, own_support_labels, own_query, own_query_labels):
        moved = adapted(workload, layers, own_support, own_support_labels)
        return task_loss(moved, own_query, own_query_labels)

    return jax.vmap(of_task)(support, support_labels, query, query_labels).sum()


def trunk_loss(workload, layers, support_rows, query_rows, support_labels, query_labels):
    """Rows are [taskCount, rowsPerTask, fieldCount, width]."""
    trunk, head = layers[: workload.trunk_size], layers[workload.trunk_size :]

    def features(rows):
        return forward(trunk, rows.reshape(*rows.shape[:2], -1), ends_in_relu=True)

    support = features(support_rows)
    if workload.order == "first":
        support = jax.lax.stop_gradient(support)
    return outer_loss(workload, head, support, support_labels, features(query_rows), query_labels)


class DenseSide:
    """W1."""

    def __init__(self, workload):
        self.state = [jnp.asarray(x) for x in workload.layers()]
        self.batches = [[jnp.asarray(x) for x in batch] for batch in workload.batches()]

        def step(layers, *batch):
            gradients = jax.grad(lambda own: outer_loss(workload, own, *batch))(layers)
            return [a - workload.meta_rate * b for a, b in zip(layers, gradients)]

        self.compiled = jax.jit(step, donate_argnums=0)

    def step(self, index):
        self.state = self.compiled(self.state, *self.batches[index % len(self.batches)])
        jax.block_until_ready(self.state)

    def layers(self):
        return [np.asarray(x) for x in self.state]


class TableSide:
    """W2."""

    def __init__(self, workload):
        self.state = (jnp.asarray(workload.array("table")), [jnp.asarray(x) for x in workload.layers()])
        host = workload.batches()
        self.host_ids = [(batch[0], batch[2]) for batch in host]
        self.batches = [[jnp.asarray(x) for x in batch] for batch in host]
        self.differentiates_support = workload.order == "second"
        self.unique_count_max = self._unique_count_max()
        self.places = np.zeros(workload.table_shape["rowCount"], np.int32)
        self.compiled = jax.jit(self._step_of(workload), donate_argnums=(0, 1))

    def _unique_count_max(self):
        """A static size for every batch, because compiled shapes need one."""
        largest = max(len(np.unique(self._updated_ids(i))) for i in range(len(self.host_ids)))
        return -(-largest // PACK_ROWS_STEP) * PACK_ROWS_STEP

    def _updated_ids(self, index):
        support, query = self.host_ids[index % len(self.host_ids)]
        if not self.differentiates_support:
            return query.reshape(-1)
        return np.concatenate([support.reshape(-1), query.reshape(-1)])

    def _pack_step(self, workload, table, layers, ids, support_places, query_places, batch):
        """With `ids` unique (and padding beyond the table), differentiates a pack of their rows."""
        support, support_labels, query_labels = batch
        pack = table.at[ids].get(mode="fill", fill_value=0)

        def loss(own_pack, own):
            support_rows = (
                own_pack[support_places] if self.differentiates_support else table[support]
            )
            return trunk_loss(
                workload, own, support_rows, own_pack[query_places], support_labels, query_labels
            )

        of_pack, of_layers = jax.grad(loss, argnums=(0, 1))(pack, layers)
        table = table.at[ids].add(
            -workload.meta_rate * of_pack, mode="drop", unique_indices=True, indices_are_sorted=True
        )
        return table, [a - workload.meta_rate * b for a, b in zip(layers, of_layers)]

    def _step_of(self, workload):
        def step(table, layers, ids, support_places, query_places, *batch):
            return self._pack_step(workload, table, layers, ids, support_places, query_places, batch)

        return step

    def _host_unique(self, index):
        """Unique ids in ascending order, padded beyond the table, and the position of every id."""
        used = self._updated_ids(index)
        is_used = np.zeros(len(self.places), bool)
        is_used[used] = True
        found = np.flatnonzero(is_used)
        self.places[found] = np.arange(len(found), dtype=np.int32)
        ids = np.arange(self.unique_count_max, dtype=np.int32) + len(self.places)
        ids[: len(found)] = found
        support, query = self.host_ids[index % len(self.host_ids)]
        support_places = self.places[support] if self.differentiates_support else support
        return ids, support_places, self.places[query]

    def step(self, index):
        support, support_labels, _, query_labels = self.batches[index % len(self.batches)]
        found = self._host_unique(index)
        self.state = self.compiled(*self.state, *found, support, support_labels, query_labels)
        jax.block_until_ready(self.state)

    def layers(self):
        return [np.asarray(x) for x in self.state[1]]

    def table(self):
        return np.asarray(self.state[0])


def main():
    workload = Workload(ARGUMENTS["folder"], ARGUMENTS["cell"])
    if workload.table_shape is None:
        side = DenseSide(workload)
    else:
        side = TableSide(workload)
    serve(workload, side, {"jax": jax.__version__, "numpy": np.__version__}, START)


main()
