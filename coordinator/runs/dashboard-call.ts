/** A call that serves the dashboard, and the orders that its pages give. */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { JobQueue } from '../../shared/queue/job-queue.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import type { GiveOrder } from '../dashboard/access.js';
import type { Dashboard } from '../dashboard/serve-dashboard.js';
import { queueAt } from './control-run.js';
import type { Environment } from './call/run-context.js';
import { ORDERS, orderedRun } from './control-run.js';

interface DashboardCall {
  /** The address of the queue; null for records alone. */
  readonly redisUrl: string | null;
  readonly prefix: string;
  /** Folders and `s3://` prefixes. */
  readonly roots: readonly string[];
  /** Addresses of the metrics of ranking servers. */
  readonly servers: readonly string[];
  /** Ranking servers that are asked about single adgroups, with their token. */
  readonly rankings?: { readonly addresses: readonly string[]; readonly token: string | null };
  readonly s3: S3Options;
  readonly port: number;
  readonly host: string;
  readonly hostsAllowed: readonly string[];
  readonly token: string | null;
  readonly allowControl: boolean;
}

/** @throws QianmoError `usage` if there is nothing to show, or nothing to control runs with. */
export async function servedDashboard(
  { redisUrl, prefix, allowControl, ...call }: DashboardCall,
  { clock, environment }: { readonly clock: Clock; readonly environment: Environment },
): Promise<Dashboard> {
  if (redisUrl === null && call.roots.length === 0 && call.servers.length === 0)
    throw nothingToShow();
  if (redisUrl === null && allowControl) throw noQueueToControl();
  const tls = redisUrl === null ? null : await tlsFilesOf(environment);
  const queue = redisUrl === null ? null : { redisUrl, prefix, tls };
  const { serveDashboard } = await import('../dashboard/serve-dashboard.js');
  const giveOrder =
    redisUrl === null || !allowControl
      ? null
      : ordersThrough(await queueAt({ redisUrl, prefix }, { clock, environment }), clock);
  return serveDashboard({ ...call, queue, clock, giveOrder });
}

function ordersThrough(queue: JobQueue, clock: Clock): GiveOrder {
  const { signal } = new AbortController();
  return async (order, run) => {
    const { state } = await orderedRun(queue, run, ORDERS[order], { clock, signal });
    return `${run}: ${state}`;
  };
}

function nothingToShow(): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'the dashboard has nothing to show',
    expected: 'the outputs of runs, a queue, ranking servers, or several of them',
    found: 'none of --runs, --redis and --servers',
    cure: 'give --runs FOLDER, or --redis URL (also the variable QIANMO_REDIS_URL)',
  });
}

function noQueueToControl(): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'runs cannot be controlled without their queue',
    expected: '--redis with --allow-control',
    found: 'no --redis',
    cure: 'give --redis URL, or leave out --allow-control',
  });
}
