/**
 * Scores and small jobs in this process, for an export: no process has to be started for a few rows. TensorFlow is loaded when
 * there is something to compute.
 */

import type { LocalCompute } from '../../coordinator/export/unknown-block.js';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import type { ComputeConfig } from '../../shared/config/compute-config.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import {
  numericalEnvironment,
  settleOwnEnvironment,
} from '../../worker/compute/device/numerical-environment.js';
import { computeEnvironment } from '../../worker/compute/device/gpus.js';
import type { GraphShelves } from '../../worker/compute/engine/capture/graph-shelf.js';
import {
  isNativeLoaded,
  loadEngine,
  type Engine,
} from '../../worker/compute/engine/load-engine.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import { RowScorer } from '../../worker/compute/job/row-scorer.js';

type Demand = Pick<ComputeConfig, 'device' | 'portable'>;

export function localCompute(context: RunContext, demand?: Demand): LocalCompute {
  const { clock, environment, sink, onClose } = context;
  const isExact = demand !== undefined && isSettled(context, demand);
  let loading: Promise<Engine> | null = null;
  let shelves: GraphShelves | null = null;
  const engineOf = (): Promise<Engine> =>
    (loading ??= loadEngine('auto', (fallback) => sink({ kind: 'backend-portable', ...fallback })));
  return {
    isExact,
    executorOn: async (store) => {
      const openStore = () => Promise.resolve(demand === undefined ? store : leftOpen(store));
      const executor = await createExecutor({
        ...{ openStore, clock, onEvent: sink },
        ...(isExact ? { device: demand.device } : {}),
        environment: context.ownEnvironment ?? environment,
      });
      onClose(() => executor.close());
      if (isExact) shelves = executor.shelves;
      if (isExact) sink({ kind: 'compute-ready', pid: process.pid, device: executor.device });
      return executor;
    },
    scorerOf: async (model) => {
      const scorer = new RowScorer(await engineOf(), model, shelves);
      onClose(() => {
        scorer.dispose();
        return Promise.resolve();
      });
      return scorer;
    },
  };
}

function isSettled({ ownEnvironment }: RunContext, { device, portable }: Demand): boolean {
  if (ownEnvironment === undefined || portable) return false;
  const wanted = numericalEnvironment(computeEnvironment(ownEnvironment, device, undefined), false);
  return settleOwnEnvironment(ownEnvironment, wanted, isNativeLoaded);
}

/** For a store that is an object of functions: the methods of a class would be lost. */
function leftOpen(store: TaskStore): TaskStore {
  return { ...store, close: () => Promise.resolve() };
}
