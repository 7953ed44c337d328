/** The part of an export that is computed in its own process: scores of rows, and the blocks of unknown adgroups. */

import type { RankingModel } from '../../shared/bundle/ranking-model.js';
import type { EncodedRows } from '../../shared/features/encoded-rows.js';
import type { AdaptedTask } from '../../shared/bundle/adapted-tasks.js';
import type { JobExecutor } from '../../shared/queue/job-executor.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';

interface ScoredAdgroup {
  readonly adapted: AdaptedTask;
  readonly rows: EncodedRows;
}

/** The shared scorer of one model. */
export interface LocalScorer {
  /** Outputs of each adgroup's rows. */
  score(scored: readonly ScoredAdgroup[]): Float32Array[];
}

/** Opened by the machine; loads what computes when it is first used, and closes with the context. */
export interface LocalCompute {
  /** Whether jobs have the bits here that they have in a process of their own. */
  readonly isExact: boolean;
  scorerOf(model: Pick<RankingModel, 'spec' | 'shift' | 'dense' | 'tables'>): Promise<LocalScorer>;
  /** Computes jobs on a store that is open, and leaves it open. */
  executorOn(store: TaskStore): Promise<JobExecutor>;
}
