/** Cancels a run through its queue, and waits until its coordinator has ended. */

import { QianmoError, errorOf } from '../../shared/base/errors.js';
import type { ConnectedWorker, JobQueue, QueueController } from '../../shared/queue/job-queue.js';
import { RUN_LEASE_MS } from '../../shared/queue/timing.js';
import type { LeaseHolder, RunEnd, RunProgress } from '../../shared/storage/lease.js';
import type { Clock } from '../../shared/base/clock.js';
import type { Dashboard, DashboardOptions } from '../dashboard/serve-dashboard.js';
import type { Environment, RunContext } from './run-context.js';
import type { RequestOf } from './requests.js';
import { bullmqJobQueue } from '../../shared/queue/bullmq-job-queue.js';
import { signedJobQueue, signingKeyOf } from '../../shared/queue/signed-job-queue.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';

const POLL_INTERVAL_MS = 200;
/** A coordinator that lives renews its lease every few seconds. The lease of a dead one has ended by then. */
const HEARD_WITHIN_MS = RUN_LEASE_MS + 1_000;

/** A run after its coordinator has heard the command. */
export interface CancelResult {
  readonly run: string;
  /** `ended`: the run has stopped already. */
  readonly state: 'stopping' | 'ended';
  /** Complete outer steps; null for work without outer steps. */
  readonly outerStep: number | null;
  readonly outerSteps: number | null;
  readonly coordinator: { readonly host: string; readonly pid: number };
}

export async function cancelRun(
  request: RequestOf<'cancel'>,
  context: RunContext,
): Promise<CancelResult> {
  return cancelRunOn(await queueAt(request, context), request.run, context);
}

/** The workers that serve a queue, in the order of their names. */
export async function workersOfQueue(
  request: RequestOf<'workers'>,
  context: RunContext,
): Promise<readonly ConnectedWorker[]> {
  const controller = await (await queueAt(request, context)).openController();
  try {
    const workers = await controller.workers();
    return [...workers].sort((a, b) => (a.name < b.name ? -1 : 1));
  } finally {
    await controller.close();
  }
}

/**
 * @throws QianmoError `usage` if no coordinator works on the run; `failed` if the run ended otherwise first;
 *   `transient` if the coordinator does not show that it has heard the command.
 */
export async function cancelRunOn(
  queue: JobQueue,
  run: string,
  context: Pick<RunContext, 'clock' | 'signal'>,
): Promise<CancelResult> {
  const controller = await queue.openController();
  try {
    return await cancelled(controller, { run, where: queue.address }, context);
  } finally {
    await controller.close();
  }
}

interface RunPlace {
  readonly run: string;
  readonly where: string;
}

async function cancelled(
  controller: QueueController,
  place: RunPlace,
  { clock, signal }: Pick<RunContext, 'clock' | 'signal'>,
): Promise<CancelResult> {
  const { run, where } = place;
  let holder = await controller.find(run);
  if (holder === null)
    throw errorOf('usage', `no coordinator works on run ${run}`, {
      where,
      expected: 'the name of a run that is being trained over this queue',
      cure:
        'check the name (`run` in the run config), --redis and --prefix; a run that has stopped is continued with ' +
        '`qianmo train run.yaml --resume`, and one that computes in process has no queue',
    });
  const untilMs = clock.monotonicMs() + HEARD_WITHIN_MS;
  for (;;) {
    const state = holder.progress?.state;
    const isOver = clock.monotonicMs() >= untilMs;
    if (state === 'finishing') throw tooLate(place, 'finished', holder.progress?.training ?? null);
    if (isOver && state === 'stopping') return resultOf(run, holder, state);
    if (isOver) {
      const { host, pid } = holder.process;
      throw errorOf('transient', `the coordinator of run ${run} has not heard the command`, {
        ...{ where, found: `process ${pid} on ${host} says nothing new` },
        cure: 'look whether it is suspended or cut off from Redis; it stops when it can be reached again',
      });
    }
    // It is given again, since the server may have lost its memory.
    if (state !== 'stopping') await controller.cancel(run, { start: holder.start });
    await clock.sleep(POLL_INTERVAL_MS, signal);
    signal.throwIfAborted();
    const found = await controller.find(run);
    if (found?.start !== holder.start) {
      const end = await controller.endOf(run, holder.start);
      if (end !== null && end.kind !== 'cancelled') throw tooLate(place, end.kind, end.training);
      const training = end?.training ?? holder.progress?.training ?? null;
      if (end !== null || found === null)
        return resultOf(run, { ...holder, progress: { state: 'stopping', training } }, 'ended');
    }
    holder = found;
  }
}

function resultOf(
  run: string,
  { process: { host, pid }, progress }: LeaseHolder,
  state: CancelResult['state'],
): CancelResult {
  const { outerStep = null, outerSteps = null } = progress?.training ?? {};
  return { run, state, outerStep, outerSteps, coordinator: { host, pid } };
}

/** Connections have the certificates that the environment names, and commands the signature of its key. */
async function queueAt(
  { redis: redisUrl, prefix }: RequestOf<'workers'>,
  { clock, environment }: Pick<RunContext, 'clock' | 'environment'>,
): Promise<JobQueue> {
  const [key, tls] = await Promise.all([signingKeyOf(environment), tlsFilesOf(environment)]);
  return signedJobQueue(bullmqJobQueue({ redisUrl, prefix, clock, tls }), key);
}

function tooLate(
  { run, where }: RunPlace,
  kind: Exclude<RunEnd['kind'], 'cancelled'>,
  training: RunProgress['training'],
): QianmoError {
  const what = `run ${run} ${kind} before the cancel took effect`;
  const { outerStep = null, outerSteps = null } = training ?? {};
  const found = `outer step ${outerStep} of ${outerSteps} is complete`;
  return new QianmoError({ kind: 'failed', what, where, ...(training === null ? {} : { found }) });
}

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
      throw errorOf('usage', 'the dashboard has nothing to show', {
        found: 'none of --runs, --redis and --servers',
        cure: 'give --runs FOLDER, or --redis URL (also the variable QIANMO_REDIS_URL)',
      });
    if (allowControl)
      throw errorOf('usage', 'runs cannot be cancelled without their queue', {
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
