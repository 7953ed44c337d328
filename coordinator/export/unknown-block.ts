/**
 * Block 0, which adgroups get that the bundle does not know: the initial blocks, or what the method makes
 * of a task without support rows whose attributes are unknown.
 */

import { at } from '../../shared/base/arrays.js';
import type { BundleManifest } from '../../shared/bundle/bundle-manifest.js';
import { allocateEncodedRows, type EncodedRows } from '../../shared/features/row-encoder.js';
import { EMPTY_PLACE_ID } from '../../shared/features/encoding-rules.js';
import { VARIANCES } from '../../shared/methods/inner-loop/personal-blocks.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { AdaptedTask } from '../../shared/bundle/adapted-tasks.js';
import { labelOf } from '../../shared/tasks/task-label.js';
import {
  type TaskEntry,
  type TaskRows,
  type TaskStore,
  storeForModel,
} from '../../shared/tasks/task-store.js';
import { createInMemoryDispatcher } from '../dispatch/in-memory-dispatcher.js';
import { adaptTasks, type AdaptableModel, type TaskJobContext } from '../evaluation/task-jobs.js';
import { UNADAPTED } from '../evaluation/arms.js';
import type { RunCaller } from '../plan/prepared-run.js';
import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';

interface UnknownBlock {
  readonly block: AdaptedTask;
  readonly described: BundleManifest['unknown'];
}

/** Two tasks, because one alone would be scored by another graph than all others. */
const TASK_COUNT = 2;
const ATTEMPTS_MAX = 2;

export async function unknownBlockOf(
  context: TaskJobContext,
  model: AdaptableModel,
  compute: LocalCompute,
  caller: RunCaller,
): Promise<UnknownBlock> {
  const { start, variances } = methodPlanOf(model.method).innerLoop;
  if (start === undefined && variances === undefined)
    return { block: initialBlock(context, model), described: { block: 'initial' } };
  const store = storeForModel(context.config.model, storeOfNobody(context.store));
  const dispatcher = createInMemoryDispatcher({
    ...{ executors: [await compute.executorOn(store)], attemptsMax: ATTEMPTS_MAX },
    ...{ clock: caller.clock, sink: caller.sink },
  });
  const taskIndices = store.tasks.map(({ taskIndex }) => taskIndex);
  const waves = adaptTasks(
    { ...context, store, dispatcher, onTasksDone: () => undefined },
    { ...model, taskIndices, adaptation: UNADAPTED, rows: 'support' },
  );
  const found: AdaptedTask[] = [];
  for await (const tasks of waves) found.push(...tasks);
  await dispatcher.close();
  const block = at(found, 0);
  // The block is one of the first label, and the prediction of a value is not moderated.
  if (labelOf(context.store.manifest, {}).loss === 'squared')
    block.blocks.get(VARIANCES)?.values.fill(0);
  return { block: { ...block, taskIndex: 0 }, described: { block: 'start-without-support' } };
}

function initialBlock({ spec }: TaskJobContext, { parameters }: AdaptableModel): AdaptedTask {
  const personal = spec.variables
    .filter(({ block }) => block === 'personal')
    .map(({ name }) => name);
  return {
    ...{ taskIndex: 0, loss: 'binary', isAlone: false },
    blocks: new Map([...parameters.dense].filter(([name]) => personal.includes(name))),
    support: {
      ...{ clicks: 0, impressions: 0 },
      byValue: (spec.options.supportInputs?.targetEncodings ?? []).map(() => new Map()),
    },
  };
}

/** A store of tasks without support rows, each with one query row of unknown values. */
function storeOfNobody({ manifest }: TaskStore): TaskStore {
  const { categoryIds, bagIds, numbers } = allocateEncodedRows(manifest.features, 1);
  for (const ids of bagIds) ids.fill(EMPTY_PLACE_ID);
  const none = new Float32Array(1);
  const rowsOf = (taskIndex: number): TaskRows => ({
    ...{ taskIndex, rowCount: 1, supportRowCount: 0 },
    ...{ categoryIds, bagIds, numbers },
    ...{ clicks: none, impressions: none, oracle: null },
    times: new Float64Array(1),
    logRows: new Float64Array(1),
  });
  const tasks = Array.from({ length: TASK_COUNT }, (_, taskIndex): TaskEntry => ({
    ...{ taskIndex, key: `${taskIndex}`, split: 'test' },
    ...{ supportRowCount: 0, queryRowCount: 1, firstSeenTime: null },
  }));
  return {
    ...{ manifest, tasks, digest: 'tasks of nobody' },
    readTasks: (indices) => Promise.resolve(indices.map(rowsOf)),
    close: () => Promise.resolve(),
  };
}

interface ScoredAdgroup {
  readonly adapted: AdaptedTask;
  readonly rows: EncodedRows;
}

/** The shared scorer of one model. */
interface LocalScorer {
  /** Outputs of each adgroup's rows. */
  score(scored: readonly ScoredAdgroup[]): Float32Array[];
}

/** Opened by the machine; loads what computes when it is first used, and closes with the context. */
export interface LocalCompute {
  /** True if jobs have the bits here that they have in a process of their own. */
  readonly isExact: boolean;
  scorerOf(model: Pick<RankingModel, 'spec' | 'dense' | 'tables'>): Promise<LocalScorer>;
  /** Computes jobs on a store that is open, and leaves it open. */
  executorOn(store: TaskStore): Promise<JobExecutor>;
}
