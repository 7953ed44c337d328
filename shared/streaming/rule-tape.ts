/** Runs a learned rule over a pair of windows and records what the way back needs of every batch. */

import { float64At, int32At, uint8At } from '../base/arrays.js';
import {
  emptyRuleState,
  learnedRuleLearner,
  ruleTime,
  STATE_WIDTH,
  type LearnedRule,
  type LearnedRuleState,
} from './learned-update.js';
import type { PairSettings } from './rule-settings.js';
import { BatchFeatureIndex, loglossOf, rowCountOf, type StreamRows } from './stream-rows.js';

/** Two consecutive windows of a stream, and the rule's state before the first. */
export interface WindowPair {
  /** The rows of the old window, then those of the new one, with only the features that they touch. */
  readonly rows: StreamRows;
  readonly oldRowCount: number;
  /** P, `[featureCount, rank]` */
  readonly embedding: Float32Array;
  readonly state: LearnedRuleState;
}

export interface BatchRecord {
  readonly from: number;
  readonly to: number;
  readonly time: number;
  readonly learned: boolean;
  readonly judged: boolean;
  /** The batch's distinct features are `tape.features[start .. start + count]`. */
  readonly start: number;
  readonly count: number;
  readonly sharedTime: number;
}

export interface RuleTape {
  readonly batches: readonly BatchRecord[];
  readonly features: Int32Array;
  /** `[distinct features of all batches, STATE_WIDTH]`, before each batch. */
  readonly states: Float64Array;
  /** z before each batch, `[batch, rank]` */
  readonly shared: Float64Array;
  /** `[rowCount]` */
  readonly logits: Float64Array;
  /** Logloss summed over the judged rows, in nats. */
  readonly lossSum: number;
}

export function recordPair(rule: LearnedRule, pair: WindowPair, settings: PairSettings): RuleTape {
  const { rows } = pair;
  const rowCount = rowCountOf(rows);
  const spans = batchSpans(pair.oldRowCount, rowCount, settings.batchRows);
  const occurrenceCount = int32At(rows.rowStarts, rowCount);
  const features = new Int32Array(occurrenceCount);
  const states = new Float64Array(occurrenceCount * STATE_WIDTH);
  const shared = new Float64Array(spans.length * rule.shape.rank);
  const logits = new Float64Array(rowCount);
  const batches: BatchRecord[] = [];
  const state = copyOf(pair.state);
  const learner = learnedRuleLearner(rule, state);
  const index = new BatchFeatureIndex(rows.featureCount);
  let start = 0;
  let lossSum = 0;
  for (const [batch, [from, to]] of spans.entries()) {
    index.index(rows, from, to);
    features.set(index.features.subarray(0, index.count), start);
    for (let place = 0; place < index.count; place += 1) {
      const at = int32At(index.features, place) * STATE_WIDTH;
      for (let part = 0; part < STATE_WIDTH; part += 1)
        states[(start + place) * STATE_WIDTH + part] = float64At(state.features, at + part);
    }
    shared.set(state.shared, batch * rule.shape.rank);
    const judged = from >= pair.oldRowCount;
    const learned = !judged || settings.query === 'progressive';
    const span = { from, to, time: ruleTime(rows, from, rule.shape), judged, learned };
    batches.push({ ...span, start, count: index.count, sharedTime: state.sharedTime });
    start += index.count;
    const batchLogits = logits.subarray(from, to);
    learner.predict(rows, from, to, batchLogits);
    if (judged)
      for (let row = from; row < to; row += 1)
        lossSum += loglossOf(float64At(logits, row), uint8At(rows.clicks, row));
    if (learned) learner.learn(rows, from, to, batchLogits);
  }
  return { batches, features, states, shared, logits, lossSum };
}

/** The batches of both windows. No batch crosses the boundary. */
function batchSpans(oldRowCount: number, rowCount: number, batchRows: number): [number, number][] {
  const spans: [number, number][] = [];
  for (const [first, end] of [
    [0, oldRowCount],
    [oldRowCount, rowCount],
  ] as const)
    for (let from = first; from < end; from += batchRows)
      spans.push([from, Math.min(end, from + batchRows)]);
  return spans;
}

function copyOf(state: LearnedRuleState): LearnedRuleState {
  const rank = state.shared.length;
  const copy = emptyRuleState(state.features.length / STATE_WIDTH, rank);
  copy.features.set(state.features);
  copy.shared.set(state.shared);
  copy.sharedTime = state.sharedTime;
  return copy;
}
