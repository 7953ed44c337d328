/**
 * Has workers compute the meta-gradients of an update rule: one job for each pair of windows. The
 * gradients come back in the order of the pairs, so that phi has the same bits as in one process.
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { ComputeConfig, QueueConfig } from '../../shared/config/compute-config.js';
import { PROTOCOL_VERSION, type RuleJob } from '../../shared/queue/protocol.js';
import type { WindowPair } from '../../shared/streaming/rule-tape.js';
import { scriptArithmetic } from '../../shared/streaming/script-arithmetic.js';
import {
  decodeRuleGradient,
  type RuleGradient,
  encodeRuleParameters,
  encodeWindowPair,
} from '../../shared/streaming/window-pair-codec.js';
import type { PairGradient } from '../../shared/streaming/window-pair-gradient.js';
import type { Dispatcher, JobOrder, ReadResult } from '../dispatch/dispatcher.js';
import type { GradientComputer } from './meta-training.js';

interface QueuedGradientsOptions {
  readonly dispatcher: Dispatcher;
  readonly runId: string;
  readonly compute: ComputeConfig;
  readonly queue: Pick<QueueConfig, 'jobTimeoutMs' | 'blobLifetimeMs'>;
  readonly signal: AbortSignal;
}

/** @returns a computer that throws what `Dispatcher.run` throws. Each call of it is an outer step. */
export function queuedGradients(options: QueuedGradientsOptions): GradientComputer {
  const { dispatcher, signal } = options;
  let outerStep = 0;
  return async (shape, parameters, pairs, { batchRows, query }) => {
    const work: RuleJob['work'] = {
      ...{ kind: 'rule-gradient', shape, settings: { batchRows, query } },
      arithmetic: scriptArithmetic(),
    };
    const dense = encodeRuleParameters(parameters);
    const orders = pairs.map(
      (pair, jobIndex) => new PairOrder(jobOf(options, work, { outerStep, jobIndex }), dense, pair),
    );
    outerStep += 1;
    const byJobIndex = new Map<number, PairGradient>();
    for await (const { result, value } of dispatcher.run(orders, gradientReader(work), signal))
      byJobIndex.set(result.jobIndex, value);
    return pairs.map((_, jobIndex) => {
      const gradient = byJobIndex.get(jobIndex);
      if (gradient === undefined) throw new Error(`job ${jobIndex} has no result`);
      return gradient;
    });
  };
}

function jobOf(
  { runId, compute, queue }: QueuedGradientsOptions,
  work: RuleJob['work'],
  place: Pick<RuleJob, 'outerStep' | 'jobIndex'>,
): JobOrder<RuleJob>['job'] {
  const { device, portable, fingerprint } = compute;
  return {
    protocolVersion: PROTOCOL_VERSION,
    runId,
    ...place,
    ...{ device, portable, ...(fingerprint === undefined ? {} : { fingerprint }) },
    work,
    timeoutMs: queue.jobTimeoutMs,
    blobLifetimeMs: queue.blobLifetimeMs,
  };
}

/** An order that encodes its pair when it is first read, so that the first jobs leave at once. */
class PairOrder implements JobOrder<RuleJob> {
  readonly job: JobOrder<RuleJob>['job'];
  readonly dense: Uint8Array;
  readonly frozen = null;
  readonly #pair: WindowPair;
  #bytes: Uint8Array | null = null;

  constructor(job: JobOrder<RuleJob>['job'], dense: Uint8Array, pair: WindowPair) {
    this.job = job;
    this.dense = dense;
    this.#pair = pair;
  }

  get rowPack(): Uint8Array {
    return (this.#bytes ??= encodeWindowPair(this.#pair));
  }
}

function gradientReader({ shape }: RuleJob['work']): ReadResult<PairGradient> {
  return ({ result, output }) => {
    const found = gradientOrNull(output, shape);
    if (found === null) return 'layout_mismatch';
    const { lossSum, gradient } = found;
    const { queryRowCount: judgedRowCount } = result;
    if (!Number.isFinite(lossSum) || !gradient.every(Number.isFinite)) return 'not_finite';
    return { lossSum, judgedRowCount, gradient };
  };
}

function gradientOrNull(output: Uint8Array, shape: RuleJob['work']['shape']): RuleGradient | null {
  try {
    return decodeRuleGradient(output, shape, 'gradient');
  } catch (error) {
    if (error instanceof QianmoError) return null;
    throw error;
  }
}
