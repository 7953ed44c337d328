/**
 * Checks that two evaluations scored the same test rows. Their stores may differ, for example in
 * features, as long as tasks, rows, clicks and impressions are the same. Pairing needs no more.
 */

import { at, spanAt } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { TestLogits } from '../scoring/test-logits.js';
import type { EvaluatedRun } from './evaluated-run.js';

/** @throws QianmoError of kind `usage` that names the first task or row that differs. */
export function demandSameRows(first: EvaluatedRun, other: EvaluatedRun): void {
  const difference = labelDifference(first, other) ?? rowDifference(first.logits, other.logits);
  if (difference === null) return;
  const digestOf = ({ report }: EvaluatedRun): string => report.run.storeDigest.slice(0, 12);
  const isSameStore = first.report.run.storeDigest === other.report.run.storeDigest;
  throw new QianmoError({
    kind: 'usage',
    what: 'these runs were not evaluated on the same test rows',
    where: other.address,
    expected: `the test rows of ${first.address} (task store ${digestOf(first)})`,
    found: `${difference}${isSameStore ? '' : ` (task store ${digestOf(other)})`}`,
    cure: 'compare runs whose stores have the same logs, tasks and splits; if a store was prepared again, evaluate its runs again',
  });
}

function labelDifference(
  { report: first }: EvaluatedRun,
  { report: other }: EvaluatedRun,
): string | null {
  const loss = ({ label }: EvaluatedRun['report']): string => label?.loss ?? 'binary';
  return loss(first) === loss(other)
    ? null
    : `labels judged by ${loss(other)} loss instead of ${loss(first)}`;
}

/** The first difference in words; null if there is none. */
function rowDifference(first: TestLogits, other: TestLogits): string | null {
  const unique = (keys: readonly string[], of: readonly string[]): string[] => {
    const known = new Set(of);
    return keys.filter((key) => !known.has(key));
  };
  const missing = unique(first.taskKeys, other.taskKeys);
  const added = unique(other.taskKeys, first.taskKeys);
  if (missing.length + added.length > 0)
    return `${other.taskKeys.length} test adgroups instead of ${first.taskKeys.length}, ${missing.length} of those missing, ${added.length} others`;
  for (const [task, key] of first.taskKeys.entries()) {
    if (other.taskKeys[task] !== key)
      return `the test adgroups in another order, from ${shown(key)} on`;
    const [start, end] = spanAt(first.rows.starts, task);
    const [otherStart, otherEnd] = spanAt(other.rows.starts, task);
    const otherCount = otherEnd - otherStart;
    if (otherCount !== end - start)
      return `${otherCount} query rows of adgroup ${shown(key)} instead of ${end - start}`;
    // The starts agree up to here, so rows are at the same places in both.
    for (const column of ['logRows', 'clicks', 'impressions'] as const)
      for (let row = start; row < end; row += 1)
        if (first.rows[column][row] !== other.rows[column][row])
          return `other ${NAMES[column]} in query row ${row - start + 1} of adgroup ${shown(key)}: ${at(other.rows[column], row)} instead of ${at(first.rows[column], row)}`;
  }
  return null;
}

const NAMES = { logRows: 'row of the logs', clicks: 'clicks', impressions: 'impressions' } as const;

/** A key of several columns is joined with U+001F. */
function shown(key: string): string {
  return key.replaceAll('\u001f', ', ');
}
