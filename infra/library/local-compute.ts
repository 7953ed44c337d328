/**
 * Scores and small jobs in this process, for an export: no process has to be started for a few rows. TensorFlow is loaded when
 * there is something to compute.
 */

import type { LocalCompute } from '../../coordinator/export/local-scorer.js';
import type { RunContext } from '../../coordinator/runs/call/run-context.js';
import { loadEngine, type Engine } from '../../worker/compute/engine/load-engine.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import { RowScorer } from '../../worker/compute/scoring/row-scorer.js';

export function localCompute({ clock, environment, sink, onClose }: RunContext): LocalCompute {
  let loading: Promise<Engine> | null = null;
  const engineOf = (): Promise<Engine> =>
    (loading ??= loadEngine('auto', (fallback) => sink({ kind: 'backend-portable', ...fallback })));
  return {
    executorOn: async (store) => {
      const openStore = () => Promise.resolve(store);
      const executor = await createExecutor({ openStore, clock, environment, onEvent: sink });
      onClose(() => executor.close());
      return executor;
    },
    scorerOf: async (model) => {
      const scorer = new RowScorer(await engineOf(), model);
      onClose(() => {
        scorer.dispose();
        return Promise.resolve();
      });
      return scorer;
    },
  };
}
