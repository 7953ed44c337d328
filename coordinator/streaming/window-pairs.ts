/** Cuts pairs of consecutive windows out of a stream, each with only the data that a job needs. */

import { int32At, uint8At } from '../../shared/base/arrays.js';
import { STATE_WIDTH, type LearnedRuleState } from '../../shared/streaming/learned-update.js';
import type { WindowPair } from '../../shared/streaming/rule-tape.js';
import { BatchFeatureIndex, type StreamRows } from '../../shared/streaming/stream-rows.js';

export interface PairSpan {
  readonly from: number;
  /** First row of the new window. */
  readonly boundary: number;
  readonly to: number;
}

/**
 * Pairs (0, 1), (1, 2), ... of windows of `windowRows`. An incomplete window at the end is left
 * out.
 */
export function pairSpans(rowCount: number, windowRows: number): PairSpan[] {
  const spans: PairSpan[] = [];
  for (let from = 0; from + 2 * windowRows <= rowCount; from += windowRows)
    spans.push({ from, boundary: from + windowRows, to: from + 2 * windowRows });
  return spans;
}

/** Rows, embedding and state of the features that the pair touches, renumbered by first occurrence. */
export function cutPair(
  rows: StreamRows,
  span: PairSpan,
  embedding: Float32Array,
  state: LearnedRuleState,
): WindowPair {
  const index = new BatchFeatureIndex(rows.featureCount);
  index.index(rows, span.from, span.to);
  const rank = state.shared.length;
  const kept = index.features.slice(0, index.count);
  const start = int32At(rows.rowStarts, span.from);
  const end = int32At(rows.rowStarts, span.to);
  const cutEmbedding = new Float32Array(index.count * rank);
  const cutState = new Float64Array(index.count * STATE_WIDTH);
  for (const [place, feature] of kept.entries()) {
    const at = feature * STATE_WIDTH;
    cutState.set(state.features.subarray(at, at + STATE_WIDTH), place * STATE_WIDTH);
    cutEmbedding.set(embedding.subarray(feature * rank, (feature + 1) * rank), place * rank);
  }
  return {
    rows: {
      slotCount: rows.slotCount,
      featureCount: index.count,
      slotOfFeature: Uint8Array.from(kept, (feature) => uint8At(rows.slotOfFeature, feature)),
      rowStarts: rows.rowStarts.slice(span.from, span.to + 1).map((at) => at - start),
      features: rows.features.slice(start, end).map((feature) => index.placeOf(feature)),
      clicks: rows.clicks.slice(span.from, span.to),
      times: rows.times.slice(span.from, span.to),
    },
    oldRowCount: span.boundary - span.from,
    embedding: cutEmbedding,
    state: { features: cutState, shared: state.shared.slice(), sharedTime: state.sharedTime },
  };
}
