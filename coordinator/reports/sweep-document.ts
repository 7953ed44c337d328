/** A sweep or a search as a document. */

import { outerStepTotal } from '../sweep/rungs.js';
import { isCrossFitted, judgingImpressions, standardErrorsAllowed } from '../sweep/safe-trials.js';
import {
  isDerived,
  rankedOnRung,
  rankedTrials,
  scoreAt,
  type ComparedTrial,
  type SweepRecord,
  type TrialRecord,
} from '../sweep/sweep-record.js';
import { describeValue } from '../sweep/trials.js';
import { BEST_MARK } from './document/as-text.js';
import {
  code,
  columnsOf,
  factsBlock,
  fieldsBlock,
  figure,
  leftColumn,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
  type Document,
  type Piece,
  type Table,
} from './document/document.js';
import { formatCount, formatNumber } from './document/format.js';
import { describeCell } from './verdicts.js';

/** Trials that have a color of their own, and trials that are listed. */
const COLORED_TRIALS_MAX = 7;
const TRIALS_SHOWN_MAX = 500;

/** @param hrefOf the page of the run with this output; null without one */
export function sweepDocument(
  record: SweepRecord,
  hrefOf: (output: string) => string | null = () => null,
): Document {
  const { sweep, search, base, best, rungs, loss, criterion, cellsPerTrial } = record;
  const minutes = spentMinutes(record);
  const note = overtrainedNote(record);
  return {
    title: `${search === undefined ? 'Sweep' : 'Search'} ${sweep}`,
    subtitle: [`trained ${rungsText(record)}; base: `, code(base)],
    data: record,
    blocks: [
      factsBlock(
        [formatCount(begunTrialCount(record)), 'trials'],
        minutes === null
          ? [formatCount(outerStepTotal(rungs)), 'outer steps in all']
          : [minutes.toFixed(1), 'minutes of trials'],
        [formatCount(cellsPerTrial), 'adaptation settings tried for each trial'],
        ...(best === null
          ? []
          : [[best.validationLogloss.toFixed(4), `best validation ${loss}`] as const]),
      ),
      ...(best === null
        ? [textBlock('It is not finished. These are the results so far.', 'note')]
        : []),
      section(
        'Scores',
        `each trial at the end of each rung: ${criterion}`,
        [scoresFigure(record)],
        'page',
      ),
      section('Trials', `the best first, by ${criterion}`, [
        tableBlock('Trials', trialsTable(record, hrefOf)),
      ]),
      ...(note === null ? [] : [textBlock(note, 'worse')]),
      ...choiceBlocks(record),
      ...bestBlocks(record),
    ],
  };
}

/** The number of trials on each rung: in a search those that had time, in a sweep those that it plans. */
function rungsText(record: SweepRecord): string {
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

/** Trials that were begun, which are all of them in a sweep. */
export function begunTrialCount({ trials, search }: SweepRecord): number {
  return search === undefined
    ? trials.length
    : trials.filter((trial) => !isDerived(trial) && trial.scores.length > 0).length;
}

/** The time that a search has spent on its trials; null for a sweep. */
function spentMinutes({ trials, search }: SweepRecord): number | null {
  if (search === undefined) return null;
  const scores = trials.flatMap((trial) => trial.scores);
  return scores.reduce((sum, { spentMs = 0 }) => sum + spentMs, 0) / 60_000;
}

/** A note if the best trial had a better score on an earlier rung. */
function overtrainedNote({ best, trials }: SweepRecord): string | null {
  const scores = trials.find(({ name }) => name === best?.trial)?.scores ?? [];
  const last = scores.at(-1)?.validationLogloss ?? -Infinity;
  const better = scores.find(({ validationLogloss: loss }) => loss !== null && loss < last);
  if (best === null || better === undefined) return null;
  return (
    `${best.trial} had scored better at outer step ${formatCount(better.outerSteps)} ` +
    `(${formatNumber(better.validationLogloss, 5)}): fewer outer steps or a faster decay of the rate may do better.`
  );
}

/** The color of a trial, by its place from the best. */
function trialColor(place: number): string {
  return place < COLORED_TRIALS_MAX ? `var(--run-${place + 1})` : 'var(--ink-2)';
}

/** Every trial, the best first. A page shows its score on each rung, a terminal the last one. */
function trialsTable(record: SweepRecord, hrefOf: (output: string) => string | null): Table {
  const { best, rungs, loss, trials } = record;
  const paths = [...new Set(trials.flatMap(({ settings }) => Object.keys(settings)))];
  const ranked = rankedTrials(record);
  const ordered = [...ranked, ...trials.filter((trial) => !ranked.includes(trial))];
  return {
    columns: [
      leftColumn('trial'),
      ...rungs.map(({ outerSteps }) => ({
        ...{ title: loss, unit: `outer step ${formatCount(outerSteps)}`, on: 'page' as const },
      })),
      ...paths.map((title) => ({ title, align: 'wrap' as const })),
      { title: 'adaptation', align: 'wrap' },
      { title: 'outer steps' },
      { title: `validation ${loss}`, on: 'terminal' },
    ],
    rows: ordered.slice(0, TRIALS_SHOWN_MAX).map((trial, place) => {
      const { name, output, scores, settings } = trial;
      const last = scores.at(-1);
      const href = hrefOf(output);
      const text = name === best?.trial ? `${name} ${BEST_MARK}` : name;
      return [
        { text, dot: trialColor(place), ...(href === null ? {} : { href }) } satisfies Piece,
        ...rungs.map((_, rungIndex) => rungCell(record, trial, rungIndex)),
        ...paths.map((path) =>
          Object.hasOwn(settings, path) ? describeValue(settings[path]) : '-',
        ),
        outcomeText(trial),
        formatCount(last?.outerSteps ?? 0),
        formatNumber(last?.validationLogloss, 5),
      ];
    }),
  };
}

function rungCell({ best, rungs }: SweepRecord, trial: TrialRecord, rungIndex: number): Cell {
  const score = scoreAt(trial, rungIndex);
  if (score === undefined) return '';
  const text = score.validationLogloss?.toFixed(5) ?? 'diverged';
  const isBest = trial.name === best?.trial && rungIndex === rungs.length - 1;
  return isBest ? { cell: text, emphasis: 'best' } : text;
}

/** The adaptation settings of the last score, or a note that there is none. */
function outcomeText({ scores }: TrialRecord): string {
  const last = scores.at(-1);
  if (last === undefined) return 'not scored yet';
  if (last.cell === null) return 'diverged';
  return [...(last.arm === undefined ? [] : [last.arm]), describeCell({ cell: last.cell })].join(
    ', ',
  );
}

/** A line for each trial; those with a color are drawn above the others. */
function scoresFigure(record: SweepRecord): Block {
  const { loss, rungs } = record;
  const end = rungs.at(-1)?.outerSteps ?? 0;
  const order = rankedTrials(record);
  const series = order.map((trial, place) => ({
    ...{ name: trial.name, color: trialColor(place) },
    look: isDerived(trial)
      ? ('diamond' as const)
      : place < COLORED_TRIALS_MAX
        ? ('dots' as const)
        : ('faint' as const),
    points: trial.scores.flatMap(({ outerSteps, validationLogloss: y }) =>
      y === null ? [] : [{ x: isDerived(trial) ? end : outerSteps, y }],
    ),
  }));
  const diamonds = order.some(isDerived)
    ? ' A diamond is a trial that was made of others at the end.'
    : '';
  return figure(
    'Scores of the trials',
    `A line that ends early belongs to a trial that was stopped.${diamonds}`,
    {
      look: 'lines',
      x: { title: 'outer steps', min: 0 },
      y: { title: `validation ${loss}` },
      series: [
        ...series.filter(({ look }) => look === 'faint'),
        ...series.filter(({ look }) => look !== 'faint'),
      ],
    },
  );
}

function choiceBlocks(record: SweepRecord): Block[] {
  const { best, loss, trials } = record;
  const sentence = choiceSentence(record);
  const compared = best?.compared;
  if (best === null || compared === undefined || sentence === null) return [];
  const lossOf = (trial: string): number | null | undefined =>
    trials.find(({ name }) => name === trial)?.scores.at(-1)?.validationLogloss;
  const table: Table = {
    columns: columnsOf('<trial', `validation ${loss}`, 'above the lowest', 'standard error'),
    rows: compared.map(({ trial, difference, standardError }) => [
      trial === best.trial ? `${trial} ${BEST_MARK}` : trial,
      formatNumber(lossOf(trial), 5),
      difference.toFixed(5),
      standardError.toFixed(5),
    ]),
  };
  return [
    section('The choice', '', [textBlock(sentence), tableBlock('The choice', table, 'page')]),
  ];
}

/** The reason for the choice of a search; null for a sweep, whose best trial has the lowest loss. */
export function choiceSentence(record: SweepRecord): string | null {
  const reason = reasonOf(record);
  const { impressions = [], trainingImpressions = [] } = record.search ?? {};
  if (reason === null || !isCrossFitted(record)) return reason;
  return (
    `${reason} Trials are compared on ${impressions.length} validation adgroups and on ${trainingImpressions.length} training ` +
    'adgroups, each by a model that was trained without its third of them.'
  );
}

function reasonOf(record: SweepRecord): string | null {
  const { best, loss, trials } = record;
  const compared = best?.compared;
  if (best === null || compared === undefined) return null;
  const own = compared.find(({ trial }) => trial === best.trial);
  const lowest = compared.find(({ difference }) => difference === 0);
  if (own === undefined || lowest === undefined) return null;
  if (compared.length === 1) return `${best.trial} is the only trial that was trained to the end.`;
  const allowed = allowedText(standardErrorsAllowed(judgingImpressions(record)));
  const making = makingOf(best.trial, trials);
  if (making !== '')
    return (
      `${making} The ${loss} of ${best.trial} is ` +
      (own === lowest
        ? 'the lowest.'
        : `within two standard errors of the lowest, that of ${lowest.trial}: ${distanceText(own)}`)
    );
  if (own === lowest)
    return `${best.trial} has the lowest ${loss}, and no trial with fewer parts is within ${allowed} of it.`;
  return (
    `${best.trial} has fewer parts than ${lowest.trial}, which has the lowest ${loss}, and is within ${allowed} of it: ` +
    distanceText(own)
  );
}

/** How a trial is made of others; empty for one that was trained. */
function makingOf(name: string, trials: SweepRecord['trials']): string {
  const { averageOf, shiftOf } = trials.find((trial) => trial.name === name) ?? {};
  if (shiftOf !== undefined)
    return `${name} is ${shiftOf} with a shift of each adgroup's level. ${makingOf(shiftOf, trials)}`.trimEnd();
  if (averageOf === undefined) return '';
  const towers = trials.flatMap((trial) =>
    averageOf.includes(trial.name) ? (trial.tower?.kind ?? []) : [],
  );
  const why =
    new Set(towers).size > 1
      ? 'networks that use support rows in two ways'
      : 'which validation cannot tell apart';
  return `${name} is one model with the mean output of ${averageOf.join(', ')}, ${why}.`;
}

function distanceText({ difference, standardError }: ComparedTrial): string {
  return `${difference.toFixed(5)} above, with a standard error of ${standardError.toFixed(5)}, paired by adgroup.`;
}

/** One, or more where few adgroups have most of the impressions. */
function allowedText(standardErrors: number): string {
  const text = standardErrors.toFixed(2);
  return text === '1.00' ? 'one standard error' : `${text} standard errors`;
}

function bestBlocks({ best, trials }: SweepRecord): Block[] {
  const trial = trials.find(({ name }) => name === best?.trial);
  if (best === null || trial === undefined) return [];
  return [
    section(
      'The best',
      `the best trial ${BEST_MARK} is a run; its config evaluates it or trains it again`,
      [
        fieldsBlock([
          ['run', code(trial.run)],
          ['config', code(best.config)],
          ['output', code(trial.output)],
          ['meta-parameters', code(trial.scores.at(-1)?.metaDigest ?? '')],
        ]),
      ],
    ),
  ];
}
