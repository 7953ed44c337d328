/**
 * Refreshes a run: appends new logs to its task store, trains the trunk further if asked to, adapts what that makes
 * stale, and moves the label. What is done is known from the store, the checkpoint and the bundles alone, so that a refresh which
 * was stopped or killed goes on when it is called again, and one that is repeated has nothing to do.
 */

import { tmpdir } from 'node:os';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import type { RunContext } from '../run-context.js';
import { appendLogs, type AppendedLogs } from '../../prepare/append-logs.js';
import { chosenConfigOf } from '../places.js';
import { dispatchForRun, type RunDispatch } from '../dispatch-for-run.js';
import { loggedRun, trackedCallOf } from '../logged-run.js';
import type { RequestOf } from '../requests.js';
import { objectStoreOf } from '../run-files.js';
import {
  refreshableOf,
  refreshedExport,
  trainedFurther,
  type RefreshedExport,
  type TrainedFurther,
} from './export-run.js';

export interface RefreshResult extends RefreshedExport, AppendedLogs {
  /** Null if the trunk was not trained. */
  readonly trained: TrainedFurther | null;
  readonly appendMs: number;
  readonly trainMs: number;
  readonly exportMs: number;
}

export async function refreshRun(
  { logs, outerSteps, ...request }: RequestOf<'refresh'>,
  context: RunContext,
): Promise<RefreshResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  const checkedFiles = new Set<string>();
  const checking = { ...context, checkedFiles };
  return loggedRun(trackedCallOf('refresh', config), checking, async (logged) => {
    const { clock, sink, signal } = logged;
    const startedMs = clock.monotonicMs();
    const objectStoreAt = (address: string) => objectStoreOf(config, address);
    const demandRefreshable = await refreshableOf(config, { ...request, outerSteps });
    const appended = await appendLogs(config, typeof logs === 'string' ? [logs] : logs, {
      ...{ clock, sink, signal, objectStoreOf: objectStoreAt, temporaryFolder: tmpdir() },
      // Refused before anything is written.
      openStore: async () => {
        const options = { checkedFiles, objectStoreOf: objectStoreAt };
        const store = await openTaskStore(config.data.store, options);
        return closedUnless(store, () => demandRefreshable(store));
      },
    });
    const appendedMs = clock.monotonicMs();
    let dispatch: Promise<RunDispatch> | null = null;
    const dispatchOf = (): Promise<RunDispatch> =>
      (dispatch ??= dispatchForRun(config, { runId: config.run }, request, logged));
    const trained =
      outerSteps === undefined
        ? null
        : await trainedFurther(config, outerSteps, dispatchOf, logged);
    const trainedMs = clock.monotonicMs();
    const exported = await refreshedExport(config, request, dispatchOf, logged);
    const endedMs = clock.monotonicMs();
    return {
      ...{ ...appended, ...exported, trained },
      ...{ appendMs: appendedMs - startedMs, trainMs: trainedMs - appendedMs },
      exportMs: endedMs - trainedMs,
    };
  });
}

async function closedUnless(store: TaskStore, demand: () => void): Promise<TaskStore> {
  try {
    demand();
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}
