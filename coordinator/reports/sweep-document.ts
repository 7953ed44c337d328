/** A sweep or a search as a document. */

import { outerStepTotal } from '../sweep/run-sweep.js';
import {
  rankedTrials,
  scoreAt,
  type SweepRecord,
  type TrialRecord,
} from '../sweep/sweep-record.js';
import { describeValue } from '../sweep/trials.js';
import { BEST_MARK } from './document/as-text.js';
import {
  code,
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
import { describeCell } from './arm-sections.js';

/** Trials that have a color of their own, and trials that are listed. */
const COLORED_TRIALS_MAX = 7;
const TRIALS_SHOWN_MAX = 500;

/** @param hrefOf the page of the run with this output; null without one */
export function sweepDocument(
  record: SweepRecord,
  hrefOf: (output: string) => string | null = () => null,
): Document {
  const { kind, sweep, base, best, rungs, loss, criterion, trials } = record;
  const bestTrial = trials.find(({ name }) => name === best?.trial);
  const course = rungs.map(
    ({ trialCount, outerSteps }) => `${trialCount} to outer step ${formatCount(outerSteps)}`,
  );
  return {
    title: `${kind === 'sweep' ? 'Sweep' : 'Search'} ${sweep}`,
    subtitle: [`trained ${course.join(', ')}; base: `, code(base)],
    data: record,
    blocks: [
      factsBlock(
        [formatCount(trainedTrialCount(record)), 'trials'],
        [formatCount(outerStepTotal(rungs)), 'outer steps in all'],
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
      ...(best === null || bestTrial === undefined
        ? []
        : [
            section(
              'The best',
              `the best trial ${BEST_MARK} is a run; its config evaluates it or trains it again`,
              [
                fieldsBlock([
                  ['run', code(bestTrial.run)],
                  ['config', code(best.config)],
                  ['output', code(bestTrial.output)],
                  ['meta-parameters', code(bestTrial.scores.at(-1)?.metaDigest ?? '')],
                ]),
              ],
            ),
          ]),
    ],
  };
}

/** Without the averages that a search makes of them. */
export function trainedTrialCount({ trials }: SweepRecord): number {
  return trials.filter(({ averageOf }) => averageOf === undefined).length;
}

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
function outcomeText({ scores, method }: TrialRecord): string {
  const last = scores.at(-1);
  if (last === undefined) return 'not scored yet';
  if (last.cell === null) return 'diverged';
  return describeCell({ cell: last.cell }, method ?? null);
}

/** A line for each trial; those with a color are drawn above the others. */
function scoresFigure(record: SweepRecord): Block {
  const { loss, rungs } = record;
  const end = rungs.at(-1)?.outerSteps ?? 0;
  const series = rankedTrials(record).map((trial, place) => ({
    ...{ name: trial.name, color: trialColor(place) },
    look:
      trial.averageOf !== undefined
        ? ('diamond' as const)
        : place < COLORED_TRIALS_MAX
          ? ('dots' as const)
          : ('faint' as const),
    points: trial.scores.flatMap(({ outerSteps, validationLogloss: y }) =>
      y === null ? [] : [{ x: trial.averageOf === undefined ? outerSteps : end, y }],
    ),
  }));
  return figure(
    'Scores of the trials',
    'A line that ends early belongs to a trial that was stopped; a diamond is a mean of others.',
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
