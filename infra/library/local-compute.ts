/** Scores and small jobs in this process, for an export: no process has to be started for a few rows. */

import type { LocalCompute } from '../../coordinator/export/local-scorer.js';
import type { RunContext } from '../../coordinator/runs/call/run-context.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import { RowScorer } from '../../worker/compute/scoring/row-scorer.js';
import type { LocalExecutor } from '../../worker/compute/job/create-executor.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';

export async function localCompute({
  clock,
  environment,
  sink,
  onClose,
}: RunContext): Promise<LocalCompute> {
  const executorOn = async (openStore: () => Promise<TaskStore>): Promise<LocalExecutor> => {
    const executor = await createExecutor({ openStore, clock, environment, onEvent: sink });
    onClose(() => executor.close());
    return executor;
  };
  const { engine } = await executorOn(() => Promise.reject(new Error('there is no store')));
  return {
    executorOn: (store) => executorOn(() => Promise.resolve(store)),
    scorerOf: (model) => {
      const scorer = new RowScorer(engine, model);
      onClose(() => {
        scorer.dispose();
        return Promise.resolve();
      });
      return scorer;
    },
  };
}
