/**
 * The protocols of a report on a terminal, and the wording and tables that it shares with the page.
 */

import type {
  ArmResult,
  EvaluationReport,
  ProtocolResult,
  Slice,
} from '../../scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { wordsOf, type LabelWords } from '../label-words.js';
import { textTable, type Table, type TableCell, type TableColumn } from '../table.js';
import { formatCount, formatNumber } from '../text-format.js';
import { bestArmOf } from '../verdicts.js';

interface Wording {
  readonly title: string;
  /** Heads the column of the points and stands below the plots. */
  readonly axis: string;
  readonly note: string;
}

export const PROTOCOL_WORDING: Readonly<Record<ProtocolResult['kind'], Wording>> = {
  shots: {
    title: 'By number of support rows',
    axis: 'support rows',
    note:
      'Every arm adapts on the first support rows of each test adgroup, as many as stated, with the settings chosen above; ' +
      'the query rows are the same throughout. An adgroup with fewer rows adapts on those it has.',
  },
  phases: {
    title: 'Phase by phase',
    axis: 'phase',
    note:
      'Cold is before any adaptation; in each phase after it every arm takes its inner steps on the next minibatch of ' +
      "each test adgroup's support rows and goes on from the blocks of the phase before. The query rows are the same " +
      'throughout. Settings were chosen on validation adgroups after the last phase.',
  },
  periods: {
    title: 'Progressive validation',
    axis: 'period from',
    note:
      'The rows of the test adgroups are replayed in order of time. Each is predicted by arms that adapted on all its ' +
      "adgroup's rows of earlier periods, with the settings chosen above. Shared parameters are those of the run.",
  },
};

const PROTOCOL_DIGITS = 4;

/** The points are rows. */
export function protocolsText(report: EvaluationReport): string[] {
  const words = wordsOf(report);
  return (report.protocols ?? []).map((protocol) => {
    const { title } = PROTOCOL_WORDING[protocol.kind];
    const table = textTable(pointsTable(protocol, words));
    return `${title}: ${words.loss}, ${words.unit} ${words.perRow}\n${table}`;
  });
}

/** The loss of every arm at each point; a page shows a second metric below it. */
export function pointsTable(protocol: ProtocolResult, words: LabelWords): Table {
  const names = armsOf(protocol);
  return {
    columns: [
      axisColumn(protocol, words),
      { title: 'adgroups' },
      // The space behind the name stands above the stars.
      ...names.map((arm) => ({ title: `${arm} `, marksBest: true })),
    ],
    rows: rowsOf(protocol).map(({ name, slice }) => [
      name,
      formatCount(slice.adgroupCount),
      ...names.map((arm) => lossCell(slice, arm)),
    ]),
  };
}

/** Names the points of a protocol, and on a page what its cells show. */
export function axisColumn({ kind }: ProtocolResult, { loss, second }: LabelWords): TableColumn {
  return {
    title: PROTOCOL_WORDING[kind].axis,
    alignment: 'left',
    page: { unit: `${loss}, ${second} below it` },
  };
}

export function lossCell(slice: Slice, arm: ArmName): TableCell {
  const metrics = resultOf(slice, arm)?.metrics;
  const text = formatNumber(metrics?.logloss ?? null, PROTOCOL_DIGITS);
  const second = formatNumber(metrics?.values?.mae ?? metrics?.auc ?? null, PROTOCOL_DIGITS);
  const cell = { text, page: `${text}<br><small>${second}</small>` };
  return bestArmOf(slice) === arm ? { ...cell, emphasis: 'best' } : cell;
}

interface ProtocolRow {
  readonly name: string;
  readonly adaptedOn: string;
  readonly slice: Slice;
}

export function rowsOf({ points, together }: ProtocolResult): ProtocolRow[] {
  const rows = points.map(({ name, adaptedOnRowCount, slice }) => ({
    name,
    adaptedOn: formatCount(adaptedOnRowCount),
    slice,
  }));
  return together === undefined
    ? rows
    : [...rows, { name: 'together', adaptedOn: '', slice: together }];
}

export function armsOf({ points }: ProtocolResult): ArmName[] {
  return points[0]?.slice.arms.map(({ arm }) => arm) ?? [];
}

export function resultOf(slice: Slice, arm: ArmName): ArmResult | undefined {
  return slice.arms.find((each) => each.arm === arm);
}
