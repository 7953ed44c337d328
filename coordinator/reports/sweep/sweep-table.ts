/** A sweep on a terminal: its trials, best first, with their settings and scores. */

import { dotHtml, escapeHtml } from '../html-text.js';
import { counted } from '../../../shared/names/counted.js';
import { BEST_MARK, textTable, type Table, type TableCell } from '../table.js';
import { formatCount, wrap } from '../text-format.js';
import { describeCell } from '../verdicts.js';
import {
  isDerived,
  rankedOnRung,
  rankedTrials,
  scoreAt,
  type SweepRecord,
  type TrialRecord,
} from '../../sweep/sweep-record.js';
import { describeValue } from '../../sweep/trials.js';
import { choiceSentence } from './choice-text.js';

/** Paths that the sweep set, in the order of its grids. */
function sweptPaths({ trials }: SweepRecord): string[] {
  return [...new Set(trials.flatMap(({ settings }) => Object.keys(settings)))];
}

function settingText({ settings }: TrialRecord, path: string): string {
  return Object.hasOwn(settings, path) ? describeValue(settings[path]) : '-';
}

/** The cell of the last score, or a note that there is none. */
function outcomeText({ scores }: TrialRecord): string {
  const last = scores.at(-1);
  if (last === undefined) return 'not scored yet';
  if (last.cell === null) return 'diverged';
  const cell = describeCell({ cell: last.cell });
  return last.arm === undefined ? cell : `${last.arm}, ${cell}`;
}

/** The number of trials on each rung: in a search those that had time, in a sweep those that it plans. */
export function rungsText(record: SweepRecord): string {
  return record.rungs
    .map(({ trialCount, outerSteps }, rungIndex) => {
      const count =
        record.search === undefined
          ? trialCount
          : rankedOnRung(record, rungIndex).filter((trial) => !isDerived(trial)).length;
      return `${count} to outer step ${formatCount(outerSteps)}`;
    })
    .join(', ');
}

/** `Sweep shop`, `Search shop-auto`. */
export function titleOf({ sweep, search }: SweepRecord): string {
  return `${search === undefined ? 'Sweep' : 'Search'} ${sweep}`;
}

/** Trials that were begun, which are all of them in a sweep. */
export function begunTrialCount({ trials, search }: SweepRecord): number {
  return search === undefined
    ? trials.length
    : trials.filter((trial) => !isDerived(trial) && trial.scores.length > 0).length;
}

/** The time that a search has spent on its trials; null for a sweep. */
export function spentMinutes({ trials, search }: SweepRecord): number | null {
  if (search === undefined) return null;
  const spentMs = trials
    .flatMap(({ scores }) => scores.map((score) => score.spentMs ?? 0))
    .reduce((sum, each) => sum + each, 0);
  return spentMs / 60_000;
}

/** A note if the best trial had a better score on an earlier rung; null otherwise. */
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

/** Trials that have a colour of their own on a page. */
export const COLOURED_TRIALS_MAX = 7;

/** The colour of a trial on a page, by its place from the best. */
export function trialColour(place: number): string {
  return place < COLOURED_TRIALS_MAX ? `var(--run-${place + 1})` : 'var(--ink-2)';
}

/** Every trial, the best first. A page shows its score on each rung, a terminal the last one. */
export function trialsTable(record: SweepRecord): Table {
  const { best, rungs, loss } = record;
  const paths = sweptPaths(record);
  return {
    columns: [
      { title: 'trial', alignment: 'left' },
      ...rungs.map(({ outerSteps }) => ({
        title: loss,
        unit: `outer step ${formatCount(outerSteps)}`,
        shownOn: 'page' as const,
      })),
      ...paths.map((path) => ({
        title: path,
        alignment: 'left' as const,
        page: fieldAndSection(path),
      })),
      { title: 'adaptation', alignment: 'left' },
      { title: 'outer steps', shownOn: 'terminal' },
      { title: `validation ${loss}`, shownOn: 'terminal' },
    ],
    rows: rankedTrials(record).map((trial, place) => {
      const { name, scores } = trial;
      const last = scores.at(-1);
      return [
        {
          text: name === best?.trial ? `${name} ${BEST_MARK}` : name,
          page: `${dotHtml(trialColour(place))}${escapeHtml(name)}`,
        },
        ...rungs.map((_, rungIndex) => rungCell(record, trial, rungIndex)),
        ...paths.map((path) => settingText(trial, path)),
        outcomeText(trial),
        formatCount(last?.outerSteps ?? 0),
        last?.validationLogloss?.toFixed(5) ?? '-',
      ];
    }),
  };
}

function rungCell({ best, rungs }: SweepRecord, trial: TrialRecord, rungIndex: number): TableCell {
  const score = scoreAt(trial, rungIndex);
  if (score === undefined) return '';
  const text = score.validationLogloss?.toFixed(5) ?? 'diverged';
  const isBest = trial.name === best?.trial && rungIndex === rungs.length - 1;
  return isBest ? { text, emphasis: 'best' } : text;
}

function fieldAndSection(path: string): { title: string; unit: string } {
  const dot = path.lastIndexOf('.');
  return { title: path.slice(dot + 1), unit: path.slice(0, Math.max(dot, 0)) };
}

/** @param outputColumns width of the terminal: sentences are wrapped to it */
export function sweepTable(record: SweepRecord, outputColumns = 80): string {
  const { best } = record;
  const note = overtrainedNote(record);
  const choice = choiceSentence(record);
  const minutes = spentMinutes(record);
  const time = minutes === null ? '' : `; ${minutes.toFixed(1)} minutes of trials`;
  return [
    wrap(
      `${titleOf(record)}: ${counted(begunTrialCount(record), 'trial')}; trained ${rungsText(record)}${time}`,
      outputColumns,
    ),
    textTable(trialsTable(record)),
    wrap(
      `Score: ${record.criterion} (${record.cellsPerTrial} settings tried for each trial).`,
      outputColumns,
    ),
    ...(note === null ? [] : [wrap(note, outputColumns)]),
    ...(choice === null ? [] : [wrap(choice, outputColumns)]),
    ...(best === null ? [] : [`${BEST_MARK} best; its config: ${best.config}`]),
  ].join('\n\n');
}
