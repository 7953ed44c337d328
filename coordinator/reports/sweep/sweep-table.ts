/** A sweep on a terminal: its trials, best first, with what was set and what they scored. */

import { alignColumns, formatCount, wrap } from '../text-format.js';
import { describeCell } from '../verdicts.js';
import { rankedTrials, type SweepRecord, type TrialRecord } from '../../sweep/sweep-record.js';
import { describeValue } from '../../sweep/trials.js';

/** Paths that the sweep set, in the order of its grids. */
export function sweptPaths({ trials }: SweepRecord): string[] {
  return [...new Set(trials.flatMap(({ settings }) => Object.keys(settings)))];
}

export function settingText({ settings }: TrialRecord, path: string): string {
  return Object.hasOwn(settings, path) ? describeValue(settings[path]) : '-';
}

/** Of the last score: the cell, or that there is none. */
export function outcomeText({ scores }: TrialRecord): string {
  const last = scores.at(-1);
  if (last === undefined) return 'not scored yet';
  return last.cell === null ? 'diverged' : describeCell({ cell: last.cell });
}

export function rungsText({ rungs }: SweepRecord): string {
  return rungs
    .map(({ trialCount, outerSteps }) => `${trialCount} to outer step ${formatCount(outerSteps)}`)
    .join(', ');
}

/** Said where the best trial had a better score on an earlier rung; null elsewhere. */
export function overtrainedNote({ best, trials }: SweepRecord): string | null {
  const scores = trials.find(({ name }) => name === best?.trial)?.scores ?? [];
  const last = scores.at(-1);
  const better = scores.find(
    ({ validationLogloss: found }) =>
      found !== null && found < (last?.validationLogloss ?? -Infinity),
  );
  if (best === null || better === undefined) return null;
  return (
    `${best.trial} had scored better at outer step ${formatCount(better.outerSteps)} ` +
    `(${better.validationLogloss?.toFixed(5) ?? ''}): fewer outer steps or a faster decay of the rate may do better.`
  );
}

/** @param outputColumns width of the terminal: sentences are wrapped to it */
export function sweepTable(record: SweepRecord, outputColumns = 80): string {
  const { best } = record;
  const order = rankedTrials(record);
  const note = overtrainedNote(record);
  const last = (trial: TrialRecord): TrialRecord['scores'][number] | undefined =>
    trial.scores.at(-1);
  const table = alignColumns(
    [
      ['trial', ...order.map(({ name }) => (name === best?.trial ? `${name} *` : name))],
      ...sweptPaths(record).map((path) => [
        path,
        ...order.map((trial) => settingText(trial, path)),
      ]),
      ['adaptation', ...order.map(outcomeText)],
      ['outer steps', ...order.map((trial) => formatCount(last(trial)?.outerSteps ?? 0))],
      [
        `validation ${record.loss}`,
        ...order.map((trial) => last(trial)?.validationLogloss?.toFixed(5) ?? '-'),
      ],
    ],
    2 + sweptPaths(record).length,
  );
  return [
    wrap(
      `Sweep ${record.sweep}: ${record.trials.length} trials; trained ${rungsText(record)}`,
      outputColumns,
    ),
    table,
    wrap(
      `Score: ${record.criterion} (${record.cellsPerTrial} settings tried for each trial).`,
      outputColumns,
    ),
    ...(note === null ? [] : [wrap(note, outputColumns)]),
    ...(best === null ? [] : [`* best; its config: ${best.config}`]),
  ].join('\n\n');
}
