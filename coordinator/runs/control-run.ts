/** Gives orders to a run through its queue, and waits until its coordinator has heard them, or has ended by them. */

import { QianmoError, type FailureReport } from '../../shared/base/errors.js';
import {
  encodeOrders,
  type ControlledRun,
  type RunController,
  type RunOrders,
} from '../../shared/queue/run-orders.js';
import type { JobQueue, ConnectedWorker } from '../../shared/queue/job-queue.js';
import { RUN_LEASE_MS } from '../../shared/queue/timing.js';
import {
  FIXED_BY_END,
  type LeaseHolder,
  type RunEnd,
  type RunProgress,
} from '../../shared/storage/lease.js';
import { OUTER_STEP_COUNT_MAX } from '../../shared/config/training-config.js';
import type { RunContext, Environment } from './run-context.js';
import type { RequestOf } from './requests.js';
import { bullmqJobQueue } from '../../shared/queue/bullmq-job-queue.js';
import { signedJobQueue } from '../../shared/queue/signed-job-queue.js';
import { signingKeyOf } from '../../shared/queue/signing.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import type { Clock } from '../../shared/base/clock.js';
import type { Dashboard, DashboardOptions } from '../dashboard/serve-dashboard.js';

const POLL_INTERVAL_MS = 200;
/** A coordinator that lives reads its orders every few seconds. The lease of a dead one has ended by then. */
const HEARD_WITHIN_MS = RUN_LEASE_MS + 1_000;
/** A coordinator takes the lease, begins to train, and tells of outer steps when it renews the lease. */
const READY_WITHIN_MS = RUN_LEASE_MS;

/** A run after its coordinator has heard the order. */
export interface ControlResult {
  readonly run: string;
  /** `ended`: the run has stopped already. */
  readonly state: RunProgress['state'] | 'ended';
  /** Complete outer steps; null for work without outer steps. */
  readonly outerStep: number | null;
  readonly outerSteps: number | null;
  readonly coordinator: { readonly host: string; readonly pid: number };
}

/** The request of every order. */
type ControlRequest = RequestOf<'control'>;
type ExtendRequest = RequestOf<'extend'>;
type ControlOrder = 'pause' | 'resume' | 'cancel';

export function controlRun(order: ControlOrder) {
  return async (request: ControlRequest, context: RunContext): Promise<ControlResult> =>
    orderedRun(await queueAt(request, context), request.run, ORDERS[order], context);
}

export async function extendRun(
  request: ExtendRequest,
  context: RunContext,
): Promise<ControlResult> {
  const queue = await queueAt(request, context);
  return orderedRun(queue, request.run, extension(request.outerSteps), context);
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

/** A change of orders, and how its coordinator shows that it has heard it. */
interface Order {
  /** False while the run has not told enough to be given the order; one that has just begun may tell more soon. */
  isReady(progress: RunProgress | undefined): boolean;
  /** @throws QianmoError `usage` if the run cannot be ordered so. */
  change(found: ControlledRun, where: string): RunOrders;
  isHeard(progress: RunProgress, orders: RunOrders): boolean;
  /** True if it came too late to be heeded. */
  isTooLate?(progress: RunProgress): boolean;
  /** The orders without this one, so that no start of the run heeds it. Those that came after it stay. */
  takenBack(orders: RunOrders, given: GivenOrders): RunOrders;
  /** The end of the run is asked for, and then awaited. */
  readonly endsRun: boolean;
}

/** With the holder as it was seen last. */
interface GivenOrders extends ControlledRun {
  /** The orders before this one. */
  readonly earlier: RunOrders;
}

const isAlwaysReady = (): boolean => true;
const isTooLate = ({ training }: RunProgress): boolean => training?.lengthFixedBy === FIXED_BY_END;

const withEarlierPause: Order['takenBack'] = (orders, given) =>
  orders.isPaused === given.orders.isPaused
    ? { ...orders, isPaused: given.earlier.isPaused }
    : orders;

export const ORDERS: Readonly<Record<ControlOrder, Order>> = {
  pause: {
    isReady: isAlwaysReady,
    change: ({ orders }) => ({ ...orders, isPaused: true }),
    isHeard: ({ state }) => state === 'pausing' || state === 'paused',
    takenBack: withEarlierPause,
    endsRun: false,
  },
  resume: {
    isReady: isAlwaysReady,
    change: ({ orders }) => ({ ...orders, isPaused: false }),
    isHeard: ({ state }) => state === 'running',
    takenBack: withEarlierPause,
    endsRun: false,
  },
  cancel: {
    isReady: isAlwaysReady,
    change: ({ orders }) => ({ ...orders, isCancelled: true }),
    isHeard: ({ state }) => state === 'stopping',
    isTooLate,
    takenBack: (orders) => ({ ...orders, isCancelled: false }),
    endsRun: true,
  },
};

/**
 * Gives an order to a run.
 *
 * @throws QianmoError `usage` if no coordinator works on the run, or if it cannot be ordered so; `transient` if
 *   the coordinator does not show that it has heard the order.
 */
export async function orderedRun(
  queue: JobQueue,
  run: string,
  order: Order,
  context: Pick<RunContext, 'clock' | 'signal'>,
): Promise<ControlResult> {
  const controller = await queue.openController();
  try {
    return await giveOrder(controller, { run, where: queue.address, order }, context);
  } finally {
    await controller.close();
  }
}

interface OrderTo {
  readonly run: string;
  readonly where: string;
  readonly order: Order;
}

async function giveOrder(
  controller: RunController,
  to: OrderTo,
  context: Pick<RunContext, 'clock' | 'signal'>,
): Promise<ControlResult> {
  let given = await givenOrders(controller, to, context);
  const { clock, signal } = context;
  const { run, where, order } = to;
  const takenBack = (orders: RunOrders): RunOrders => order.takenBack(orders, given);
  const untilMs = clock.monotonicMs() + HEARD_WITHIN_MS;
  for (;;) {
    const found = await controller.find(run);
    if (found?.holder.start !== given.holder.start) {
      const end = await controller.endOf(run, given.holder.start);
      if (end !== null) return afterEnd(to, given.holder, end);
    }
    if (found === null) {
      // A dead coordinator has not heeded the order, and the next one must not.
      if (!(await controller.withdraw(run, takenBack))) continue;
      if (!order.endsRun) throw endedFirst(to);
      return resultOf(run, given.holder, 'ended');
    }
    // The next coordinator takes no signed order that was addressed to the dead one.
    if (found.holder.start !== given.holder.start && isStillGiven(found.orders, given.orders))
      await controller.replace(run, found.orders, given.orders);
    given = { ...given, holder: found.holder };
    const { progress } = found.holder;
    if (progress !== undefined && order.isTooLate?.(progress) === true) {
      await takeBack(controller, run, takenBack);
      throw order.endsRun ? tooLateToCancel(to, 'finished', progress.training) : endedFirst(to);
    }
    const isHeard = progress !== undefined && order.isHeard(progress, given.orders);
    const isOver = clock.monotonicMs() >= untilMs;
    if (isHeard && (isOver || !order.endsRun)) return resultOf(run, found.holder, progress.state);
    if (isOver) {
      const { host, pid } = found.holder.process;
      throw new QianmoError({
        ...{ kind: 'transient', what: `the coordinator of run ${run} has not heard the order yet` },
        ...{ where, found: `process ${pid} on ${host} says nothing new` },
        cure: 'look whether it is suspended or cut off from Redis; the order stays and is heeded when it reads it',
      });
    }
    await clock.sleep(POLL_INTERVAL_MS, signal);
    signal.throwIfAborted();
  }
}

/** Compares with the orders that were given, with or without an extension that the next start does not inherit. */
function isStillGiven(orders: RunOrders, given: RunOrders): boolean {
  const texts = [given, { ...given, outerSteps: null }].map(encodeOrders);
  return texts.includes(encodeOrders(orders));
}

/** @throws QianmoError `failed` unless the order has ended the run. */
function afterEnd(to: OrderTo, holder: LeaseHolder, { kind, training }: RunEnd): ControlResult {
  if (!to.order.endsRun) throw endedFirst(to);
  if (kind !== 'cancelled') throw tooLateToCancel(to, kind, training);
  const progress: RunProgress = { state: 'stopping', training };
  return resultOf(to.run, { ...holder, progress }, 'ended');
}

/** Changes the orders of a run whether a coordinator still holds its lease or not. */
async function takeBack(
  controller: RunController,
  run: string,
  change: (orders: RunOrders) => RunOrders,
): Promise<void> {
  for (;;) {
    const found = await controller.find(run);
    const isDone =
      found === null
        ? await controller.withdraw(run, change)
        : await controller.replace(run, found.orders, change(found.orders));
    if (isDone) return;
  }
}

async function givenOrders(
  controller: RunController,
  { run, where, order }: OrderTo,
  { clock, signal }: Pick<RunContext, 'clock' | 'signal'>,
): Promise<GivenOrders> {
  const untilMs = clock.monotonicMs() + READY_WITHIN_MS;
  for (;;) {
    signal.throwIfAborted();
    const found = await controller.find(run);
    if (found === null)
      throw usageError(`no coordinator works on run ${run}`, where, {
        expected: 'the name of a run that is being trained over this queue',
        cure:
          'check the name (`run` in the run config), --redis and --prefix; a run that has stopped is continued with ' +
          '`qianmo train run.yaml --resume`, and one that computes in process has no queue',
      });
    if (!order.isReady(found.holder.progress) && clock.monotonicMs() < untilMs) {
      await clock.sleep(POLL_INTERVAL_MS, signal);
      continue;
    }
    const orders = order.change(found, `run ${run}`);
    // Somebody else may have given orders meanwhile.
    if (await controller.replace(run, found.orders, orders))
      return { ...found, orders, earlier: found.orders };
  }
}

function resultOf(
  run: string,
  { process: { host, pid }, progress }: LeaseHolder,
  state: ControlResult['state'],
): ControlResult {
  const { outerStep = null, outerSteps = null } = progress?.training ?? {};
  return { run, state, outerStep, outerSteps, coordinator: { host, pid } };
}

export function extension({ count, isAdded }: ExtendRequest['outerSteps']): Order {
  return {
    isReady: (progress) =>
      progress?.hasOuterSteps === false || (progress?.training ?? null) !== null,
    change: ({ holder: { progress }, orders }, where) => {
      const training = progress?.training ?? null;
      if (progress?.hasOuterSteps === false)
        throw usageError('this run has no outer steps to extend', where, {
          cure: 'evaluations, exports and sweeps can be paused and cancelled only',
        });
      if (training === null)
        throw usageError('this run has no outer steps to extend yet', where, {
          cure: 'give the order again when it trains',
        });
      const { lengthFixedBy } = training;
      if (lengthFixedBy === FIXED_BY_END)
        throw usageError('this run cannot be extended: its last outer step is over', where, {
          found: 'one whose training has ended',
          cure: 'when it has ended, train a run with its output in training.startFrom',
        });
      if (lengthFixedBy !== null)
        throw usageError('this run cannot be extended: a step depends on their number', where, {
          found: lengthFixedBy,
          cure: 'train a run with more training.outerSteps, and name the output of this one in training.startFrom',
        });
      const total = Math.max(training.outerSteps, orders.outerSteps ?? 0);
      const outerSteps = isAdded ? total + count : count;
      if (outerSteps <= total || outerSteps > OUTER_STEP_COUNT_MAX)
        throw usageError('a run cannot be extended to this number of outer steps', where, {
          expected: `more than the ${total} that it has, and at most ${OUTER_STEP_COUNT_MAX}`,
          found: `${outerSteps}`,
        });
      return { ...orders, outerSteps };
    },
    isHeard: ({ training }, { outerSteps }) =>
      training !== null && outerSteps !== null && training.outerSteps >= outerSteps,
    isTooLate,
    takenBack: (orders, { orders: { outerSteps }, earlier, holder: { progress } }) => {
      if (orders.outerSteps !== outerSteps) return orders;
      // An earlier extension that nobody has heard is refused, too.
      const isHeard = (progress?.training?.outerSteps ?? 0) >= (earlier.outerSteps ?? 0);
      return { ...orders, outerSteps: isHeard ? earlier.outerSteps : null };
    },
    endsRun: false,
  };
}

/** Connections have the certificates that the environment names, and orders the signature of its key. */
async function queueAt(
  { redis: redisUrl, prefix }: RequestOf<'workers'>,
  { clock, environment }: Pick<RunContext, 'clock' | 'environment'>,
): Promise<JobQueue> {
  const [key, tls] = await Promise.all([signingKeyOf(environment), tlsFilesOf(environment)]);
  return signedJobQueue(bullmqJobQueue({ redisUrl, prefix, clock, tls }), key);
}

function usageError(
  what: string,
  where: string,
  parts: Pick<FailureReport, 'expected' | 'found' | 'cure'>,
): QianmoError {
  return new QianmoError({ kind: 'usage', what, where, ...parts });
}

function endedFirst({ run, where }: OrderTo): QianmoError {
  const what = `run ${run} ended before its coordinator heard the order`;
  return new QianmoError({ kind: 'failed', what, where, cure: 'see its output for how it ended' });
}

function tooLateToCancel(
  { run, where }: OrderTo,
  kind: Exclude<RunEnd['kind'], 'cancelled'>,
  training: RunProgress['training'],
): QianmoError {
  const what = `run ${run} ${kind} before the cancel took effect`;
  const { outerStep = null, outerSteps = null } = training ?? {};
  const found = `outer step ${outerStep} of ${outerSteps} is complete`;
  return new QianmoError({ kind: 'failed', what, where, ...(training === null ? {} : { found }) });
}

interface DashboardCall extends Omit<DashboardOptions, 'queue' | 'clock' | 'giveOrder'> {
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
        ...{ kind: 'usage', what: 'runs cannot be controlled without their queue' },
        cure: 'give --redis URL, or leave out --allow-control',
      });
    return serveDashboard({ ...call, queue: null, clock });
  }
  const queue = { redisUrl: redis, prefix, tls: await tlsFilesOf(around.environment) };
  if (!allowControl) return serveDashboard({ ...call, queue, clock });
  const ordered = await queueAt({ redis, prefix }, around);
  const { signal } = new AbortController();
  return serveDashboard({
    ...{ ...call, queue, clock },
    giveOrder: async (order, run) => {
      const { state } = await orderedRun(ordered, run, ORDERS[order], { clock, signal });
      return `${run}: ${state}`;
    },
  });
}
