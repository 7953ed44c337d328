/** Times of calls, and errors of encodings. */

import { at, median } from '../../../shared/base/arrays.js';
import type { BlockEncoding, RankingModel } from '../../../shared/bundle/ranking-model.js';
import { KernelScorer, type loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import type { RankingRequest } from '../../../worker/serving/ranking-request.js';
import { CANDIDATE_COUNT, CONTEXT_FEATURES, rankingModelOf, specOf } from './kernel-setting.js';

/** Microseconds of a request in one turn of a side. */
export interface SideTimes {
  readonly medianUs: number;
  readonly leastUs: number;
  /** Processor time, all threads; what other programs take is not in it. */
  readonly cpuUs: number;
}

export function timedCalls(
  callCount: number,
  scale: number,
  call: (index: number) => void,
): SideTimes {
  // The turn of another side has filled the caches.
  call(callCount);
  const wallUs: number[] = [];
  const before = process.cpuUsage();
  for (let index = 0; index < callCount; index += 1) {
    const start = process.hrtime.bigint();
    call(index);
    wallUs.push((scale * Number(process.hrtime.bigint() - start)) / 1000);
  }
  const { user, system } = process.cpuUsage(before);
  return {
    medianUs: median(wallUs),
    leastUs: Math.min(...wallUs),
    cpuUs: (scale * (user + system)) / callCount,
  };
}

export interface EncodingError {
  readonly personal: 'head' | 'mid';
  readonly encoding: BlockEncoding;
  readonly strideByteCount: number;
  /** Of the logit, against float32. */
  readonly largest: number;
  readonly rootMeanSquare: number;
  /** Standard deviation of the logits. */
  readonly deviation: number;
}

interface ErrorSetting {
  readonly addon: ReturnType<typeof loadScoringAddon>;
  readonly tables: RankingModel['tables'];
  readonly requests: readonly RankingRequest[];
}

export function encodingErrors(
  cases: readonly Pick<EncodingError, 'personal' | 'encoding'>[],
  { addon, tables, requests }: ErrorSetting,
): EncodingError[] {
  const logitsOf = (personal: 'head' | 'mid', encoding: BlockEncoding): [Float32Array, number] => {
    const spec = specOf(personal, personal === 'head' ? [128, 64] : [128, 64, 32]);
    const model = rankingModelOf(spec, tables, { encoding, adgroupCount: 1000 });
    const scorer = new KernelScorer(addon, model, CONTEXT_FEATURES);
    const logits = new Float32Array(requests.length * CANDIDATE_COUNT);
    for (const [index, request] of requests.entries())
      scorer.score(
        request,
        logits.subarray(index * CANDIDATE_COUNT, (index + 1) * CANDIDATE_COUNT),
      );
    return [logits, model.blocks.layout.strideByteCount];
  };
  return cases.map(({ personal, encoding }) => {
    const [exact] = logitsOf(personal, 'float32');
    const [found, strideByteCount] = logitsOf(personal, encoding);
    const errors = Array.from(found, (value, index) => value - at(exact, index));
    const mean = exact.reduce((sum, value) => sum + value, 0) / exact.length;
    return {
      ...{ personal, encoding, strideByteCount },
      largest: errors.reduce((most, error) => Math.max(most, Math.abs(error)), 0),
      rootMeanSquare: rootMeanSquare(errors),
      deviation: rootMeanSquare(Array.from(exact, (value) => value - mean)),
    };
  });
}

function rootMeanSquare(values: readonly number[]): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
}
