/**
 * Refreshes a run: appends new logs to its task store, adapts the adgroups that have new rows, and moves the
 * label to a delta. What is done is known from the store and the bundles alone, so that a refresh which was stopped or killed
 * goes on when it is called again, and one that is repeated has nothing to do.
 */

import { tmpdir } from 'node:os';
import type { z } from 'zod';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { appendLogs, type AppendedLogs } from '../../prepare/append/append-logs.js';
import type { RunContext } from '../call/run-context.js';
import { runConfigOf } from '../config-sources.js';
import { loggedCallOf, loggedRun } from '../logged-run.js';
import type { RefreshRequestSchema } from '../requests.js';
import { objectStoreOf } from '../run-files.js';
import { changedExport, type ChangedExport } from './export-changed-run.js';

export interface RefreshResult extends ChangedExport, AppendedLogs {
  readonly appendMs: number;
  readonly exportMs: number;
}

export async function refreshRun(
  { logs, ...request }: z.output<typeof RefreshRequestSchema>,
  context: RunContext,
): Promise<RefreshResult> {
  const config = await runConfigOf(request.config, context.environment);
  return loggedRun(loggedCallOf(config), context, async (logged) => {
    const { clock, sink, signal } = logged;
    const startedMs = clock.monotonicMs();
    const objectStoreAt = (address: string) => objectStoreOf(config, address);
    const appended = await appendLogs(config, typeof logs === 'string' ? [logs] : logs, {
      ...{ clock, sink, signal, objectStoreOf: objectStoreAt, temporaryFolder: tmpdir() },
      openStore: () => openTaskStore(config.data.store, { objectStoreOf: objectStoreAt }),
    });
    const appendedMs = clock.monotonicMs();
    const exported = await changedExport(config, request, logged);
    const endedMs = clock.monotonicMs();
    return {
      ...{ ...appended, ...exported },
      ...{ appendMs: appendedMs - startedMs, exportMs: endedMs - appendedMs },
    };
  });
}
