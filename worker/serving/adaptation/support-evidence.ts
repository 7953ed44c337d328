/**
 * What the labelled rows of one adgroup show: the support inputs of those rows, each made of the others, and the sums that
 * the inputs of its candidates are made of.
 */

import { at, int32At } from '../../../shared/base/arrays.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import {
  NO_LABELS,
  sumsByGroup,
  sumsOfOtherRows,
  supportInputColumns,
} from '../../../shared/models/support-columns.js';
import type { SupportSums } from '../../../shared/queue/blobs/adapted-tasks.js';
import type { LossKind } from '../../../shared/tasks/task-label.js';
import { requestLayoutOf, type RankingRequest } from '../ranking-request.js';

/** Labelled rows of one adgroup, `[rowCount]` each. */
export interface LabelledRows {
  /** Without a context. */
  readonly rows: RankingRequest;
  readonly loss: LossKind;
  /** Clicks, or weight times the standardised value. */
  readonly clicks: Float64Array;
  readonly impressions: Float64Array;
}

/** The rows with the support inputs of the model behind their numbers. */
export function withSupportColumns(spec: ModelSpec, support: LabelledRows): RankingRequest {
  const { supportInputs } = spec.options;
  const { rows, loss } = support;
  if (supportInputs === undefined) return rows;
  const labels = labelsOf(support);
  const columns = supportInputColumns(supportInputs, loss, {
    rowCount: labels.rowCount,
    all: sumsOfOtherRows(labels, null),
    byValue: encodedIdsOf(spec, rows).map((ids) => sumsOfOtherRows(labels, ids)),
  });
  const dataCount = requestLayoutOf(spec, []).numberCounts.candidate;
  const stride = dataCount + columns.length;
  const candidateNumbers = new Float32Array(labels.rowCount * stride);
  for (let row = 0; row < labels.rowCount; row += 1) {
    const own = rows.candidateNumbers.subarray(row * dataCount, (row + 1) * dataCount);
    candidateNumbers.set(own, row * stride);
    for (const [place, column] of columns.entries())
      candidateNumbers[row * stride + dataCount + place] = at(column, row);
  }
  return { ...rows, candidateNumbers };
}

/** The sums over all rows, and by value where the model has target encodings. */
export function supportSumsIn(spec: ModelSpec, support: LabelledRows): SupportSums {
  const labels = labelsOf(support);
  return {
    ...(sumsByGroup(labels, null).get(0) ?? NO_LABELS),
    byValue: encodedIdsOf(spec, support.rows).map((ids) => sumsByGroup(labels, ids)),
  };
}

/** All rows are support rows. */
function labelsOf({ rows, clicks, impressions }: LabelledRows) {
  const { candidateCount: rowCount } = rows;
  return { rowCount, supportRowCount: rowCount, clicks, impressions };
}

/** The ids of the rows, `[rowCount]`, by feature with a target encoding. */
function encodedIdsOf(
  spec: ModelSpec,
  { candidateCount, candidateIds }: RankingRequest,
): Int32Array[] {
  const { ids, idCounts } = requestLayoutOf(spec, []);
  return (spec.options.supportInputs?.targetEncodings ?? []).map((feature) => {
    const { firstPlace } = at(ids, spec.categoryFeatures.indexOf(feature));
    return Int32Array.from({ length: candidateCount }, (_, row) =>
      int32At(candidateIds, row * idCounts.candidate + firstPlace),
    );
  });
}
