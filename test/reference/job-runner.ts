/** Jobs of test cases on one executor, which lives as long as the tests of the file. */

import type { TaskStore } from '../../shared/tasks/task-store.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  type CaseWork,
  runJob,
  type JobCase,
  type NamedOutput,
} from '../fixtures/compute/compute-inputs.js';
import { openedOnce } from '../fixtures/opened.js';

export interface JobRunner {
  /** One job, with all tasks of the case's store by default. */
  readonly run: (
    jobCase: JobCase,
    work: CaseWork,
    taskIndices?: readonly number[],
  ) => Promise<NamedOutput>;
}

/** To be called at the start of a test file. */
export function jobRunner(): JobRunner {
  const executor = openedOnce(() =>
    createExecutor({
      openStore: ({ digest }) => {
        const store = stores.get(digest);
        return store === undefined
          ? Promise.reject(new Error(`no case has the store ${digest}`))
          : Promise.resolve(store);
      },
    }),
  );
  const stores = new Map<string, TaskStore>();
  const digests = new Map<TaskStore, string>();

  return {
    run: ({ store, ...jobCase }, work, taskIndices = allOf(store)) => {
      // The executor keeps stores by digest, and tiny stores with the same seed share one digest.
      const digest = digests.get(store) ?? `store ${digests.size}`;
      digests.set(store, digest);
      const own = { ...store, digest };
      stores.set(digest, own);
      return runJob(executor, { ...jobCase, store: own }, taskIndices, work);
    },
  };
}

export function allOf({ tasks }: TaskStore): number[] {
  return tasks.map(({ taskIndex }) => taskIndex);
}
