/** The comparison of the arms of an A/B test as a document. */

import { at } from '../../shared/base/arrays.js';
import { counted } from '../../shared/names/counted.js';
import type { ExperimentRows } from '../logs/experiment-rows.js';
import type { ArmReport, ExperimentReport } from '../scoring/experiment.js';
import {
  columnsOf,
  factsBlock,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
  type Document,
  type Table,
} from './document/document.js';
import { formatCount, formatNumber, formatShare } from './document/format.js';

/** Arms are named by digests of bundles, of which the start is enough for people. */
const NAME_LENGTH_MAX = 16;
const MEAN_DIGITS = 5;

export interface ComparedExperiment
  extends ExperimentReport, Pick<ExperimentRows, 'crossedCount' | 'otherRowCount'> {}

export function experimentDocument(report: ComparedExperiment): Document {
  const { control, confidence, arms, segments, explainedShare, plan, warnings } = report;
  const sum = (count: (arm: ArmReport) => number): number =>
    arms.reduce((total, arm) => total + count(arm), 0);
  return {
    title: 'A/B test',
    subtitle: `against ${shortName(control)}`,
    data: report,
    blocks: [
      factsBlock(
        [formatCount(sum(({ unitCount }) => unitCount)), 'units'],
        [formatCount(sum(({ impressionCount }) => impressionCount)), 'impressions'],
      ),
      ...warningsOf(report, warnings),
      ...arms.slice(1).map((arm) => verdictBlock(arm, control)),
      tableBlock('Arms', armsTable(arms, confidence)),
      ...(segments.length === 0
        ? []
        : [
            section(
              'By segment',
              'as a unit was first seen; together they hold with the same confidence',
              [tableBlock('Segments', segmentsTable(report))],
            ),
          ]),
      ...(explainedShare === null
        ? []
        : [
            textBlock(
              `What units did before the test explains ${formatShare(explainedShare)} of the variance, which is taken out.`,
            ),
          ]),
      ...(plan === null
        ? []
        : [
            textBlock(
              `A difference of ${formatShare(plan.effect)} is found with ${formatShare(plan.power)} probability from ` +
                `${formatCount(plan.unitsAlways)} units in each of two arms on, looking at any time; looking once, from ${formatCount(plan.unitsAtOnce)}.`,
            ),
          ]),
    ],
  };
}

function warningsOf(
  { crossedCount, otherRowCount, arms }: ComparedExperiment,
  warnings: readonly string[],
): Block[] {
  const found = [...warnings];
  if (crossedCount > 0)
    found.push(
      `${counted(crossedCount, 'unit')} saw several arms and ${crossedCount === 1 ? 'is' : 'are'} left out; ` +
        'the others differ from them, so name a unit that sees one arm only',
    );
  if (otherRowCount > 0)
    found.push(`${counted(otherRowCount, 'row')} without a unit, or of no arm that is compared`);
  if (arms.slice(1).every(({ lift }) => lift === null))
    found.push('too few units for an interval: each arm needs 100, and the control an outcome');
  return found.map((warning) => textBlock(`Warning: ${warning}.`, 'worse'));
}

function verdictBlock({ arm, lift, verdict }: ArmReport, control: string): Block {
  const word = verdict === 'better' ? 'more' : 'less';
  const sentence =
    verdict === 'undecided' || verdict === null
      ? `Whether ${shortName(arm)} brings more or less than ${shortName(control)} cannot be said yet`
      : `${shortName(arm)} brings ${word} than ${shortName(control)}`;
  return textBlock(
    lift === null ? `${sentence}.` : `${sentence}: ${liftText(lift.value)} ${rangeText(lift)}.`,
    verdict ?? 'undecided',
  );
}

function armsTable(arms: readonly ArmReport[], confidence: number): Table {
  return {
    columns: columnsFor(['<arm'], confidence),
    rows: arms.map((arm) => [shortName(arm.arm), ...cellsOf(arm)]),
  };
}

function segmentsTable({ segments, confidence }: ComparedExperiment): Table {
  return {
    columns: columnsFor(['<segment', '<arm'], confidence),
    rows: segments.flatMap(({ segment, arms }) =>
      arms.map((arm, place) => [
        place === 0 ? segment || '(none)' : '',
        shortName(arm.arm),
        ...cellsOf(arm),
      ]),
    ),
  };
}

/** Names, and the columns of `cellsOf`. */
function columnsFor(names: readonly string[], confidence: number): Table['columns'] {
  const interval = ['difference', `${formatShare(confidence)} from`, 'to'];
  return columnsOf(...names, 'units', 'impressions', 'outcomes per impression', ...interval);
}

function cellsOf({ unitCount, impressionCount, mean, lift, verdict }: ArmReport): Cell[] {
  const numbers = lift === null ? ['', '', ''] : [lift.value, lift.low, lift.high].map(liftText);
  return [
    ...[formatCount(unitCount), formatCount(impressionCount), formatNumber(mean, MEAN_DIGITS)],
    verdict === null ? at(numbers, 0) : { cell: at(numbers, 0), emphasis: verdict },
    ...numbers.slice(1),
  ];
}

function shortName(arm: string): string {
  return arm.length > NAME_LENGTH_MAX ? arm.slice(0, NAME_LENGTH_MAX) : arm;
}

function liftText(lift: number): string {
  const percent = (100 * lift).toFixed(2);
  return `${lift > 0 ? '+' : ''}${percent} %`;
}

function rangeText({ low, high }: { readonly low: number; readonly high: number }): string {
  return `[${liftText(low)}, ${liftText(high)}]`;
}
