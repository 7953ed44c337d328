/** The settings of `qianmo stream`, from its config and the size of the stream. */

import type { StreamConfig } from '../../shared/config/stream-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { timeScaleDaysOf } from '../../shared/streaming/learned-update.js';
import { rowCountOf, type StreamRows } from '../../shared/streaming/stream-rows.js';
import type { ComparisonSettings } from './rule-comparison.js';

/**
 * @throws QianmoError of kind `data` if the stream is too short to be divided as the config asks, or if
 *   its prior part spans no time.
 */
export function comparisonSettingsOf(config: StreamConfig, rows: StreamRows): ComparisonSettings {
  const rowCount = rowCountOf(rows);
  const priorRowCount = Math.round(config.priorShare * rowCount);
  const { windows, epochs, sweeps, embedded, ...learned } = config.learned;
  const windowRows = Math.floor(priorRowCount / windows);
  const rowsMin = Math.ceil(
    Math.max(windows / config.priorShare, config.segments / (1 - config.priorShare)),
  );
  if (windowRows < 1 || rowCount - priorRowCount < config.segments)
    throw new QianmoError({
      kind: 'data',
      what: 'the stream is too short',
      where: 'data.logs',
      expected: `at least ${rowsMin} rows: one for every window of the prior part and every segment after it`,
      found: `${rowCount} rows`,
      cure: 'provide more logs, or set fewer segments and learned.windows',
    });
  if (timeScaleDaysOf(rows, priorRowCount) === 0)
    throw new QianmoError({
      kind: 'data',
      what: 'all rows of the prior part have the same time',
      where: `data.time: ${config.data.time}`,
      expected: 'times that differ within it: the learned rule measures ages in its length',
      found: `a single time in the first ${priorRowCount} of ${rowCount} rows`,
      cure: 'raise priorShare until it includes later times, or name a column with finer times in data.time',
    });
  return {
    ...learned,
    seed: config.seed,
    batchRows: config.batchRows,
    priorRowCount,
    chosenFromRow: Math.floor(priorRowCount / 2),
    candidateCount: config.candidates,
    embeddedSlots: config.slots.flatMap(({ name, cross }, slot) =>
      (embedded?.includes(name) ?? cross === undefined) ? [slot] : [],
    ),
    placesOthers: embedded === undefined,
    sweepCount: sweeps,
    windowRows,
    epochCount: epochs,
    segmentStarts: evenStarts(priorRowCount, rowCount, config.segments),
  };
}

/** First rows of `count` segments of about equal size. */
function evenStarts(from: number, to: number, count: number): number[] {
  return Array.from(
    { length: count },
    (_, segment) => from + Math.round((segment * (to - from)) / count),
  );
}
