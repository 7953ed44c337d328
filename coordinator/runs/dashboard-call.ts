/** Serves the dashboard, whose pages may cancel runs. */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import type { Dashboard, DashboardOptions } from '../dashboard/serve-dashboard.js';
import type { Environment } from './run-context.js';
import { cancelRunOn, queueAt } from './cancel-run.js';

interface DashboardCall extends Omit<DashboardOptions, 'queue' | 'clock' | 'cancelRun'> {
  /** The address of the queue; null for records alone. */
  readonly redis: string | null;
  readonly prefix: string;
  readonly allowControl: boolean;
}

/** @throws QianmoError `usage` if there is nothing to show, or nothing to control runs with. */
export async function servedDashboard(
  { redis, prefix, allowControl, ...call }: DashboardCall,
  around: { readonly clock: Clock; readonly environment: Environment },
): Promise<Dashboard> {
  const { clock } = around;
  const { serveDashboard } = await import('../dashboard/serve-dashboard.js');
  if (redis === null) {
    if (call.roots.length === 0 && (call.servers ?? []).length === 0)
      throw new QianmoError({
        ...{ kind: 'usage', what: 'the dashboard has nothing to show' },
        found: 'none of --runs, --redis and --servers',
        cure: 'give --runs FOLDER, or --redis URL (also the variable QIANMO_REDIS_URL)',
      });
    if (allowControl)
      throw new QianmoError({
        ...{ kind: 'usage', what: 'runs cannot be cancelled without their queue' },
        cure: 'give --redis URL, or leave out --allow-control',
      });
    return serveDashboard({ ...call, queue: null, clock });
  }
  const queue = { redisUrl: redis, prefix, tls: await tlsFilesOf(around.environment) };
  if (!allowControl) return serveDashboard({ ...call, queue, clock });
  const jobs = await queueAt({ redis, prefix }, around);
  const { signal } = new AbortController();
  return serveDashboard({
    ...{ ...call, queue, clock },
    cancelRun: async (run) => {
      const { state } = await cancelRunOn(jobs, run, { clock, signal });
      return `${run}: ${state}`;
    },
  });
}
