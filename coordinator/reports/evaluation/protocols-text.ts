/** The protocols of a report on a terminal, and what table and page have in common. */

import type {
  ArmResult,
  EvaluationReport,
  ProtocolResult,
  Slice,
} from '../../scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { wordsOf } from '../label-words.js';
import { alignColumns, formatCount, formatNumber } from '../text-format.js';
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
      'Every arm adapts on the first so many support rows of each test adgroup, with the settings chosen above; ' +
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
      'The rows of the test adgroups in order of time: each is predicted by arms that adapted on all its ' +
      "adgroup's rows of earlier periods, with the settings chosen above. Shared parameters are those of the run.",
  },
};

export const PROTOCOL_DIGITS = 4;

/** The loss of every arm at each point; the points are rows. */
export function protocolsText(report: EvaluationReport): string[] {
  const { loss, unit, perRow } = wordsOf(report);
  return (report.protocols ?? []).map((protocol) => {
    const { title, axis } = PROTOCOL_WORDING[protocol.kind];
    const rows = rowsOf(protocol);
    const names = armsOf(protocol);
    const columns = [
      [axis, ...rows.map(({ name }) => name)],
      ['adgroups', ...rows.map(({ slice }) => formatCount(slice.adgroupCount))],
      ...names.map((arm) => [
        `${arm} `,
        ...rows.map(({ slice }) => {
          const found = resultOf(slice, arm);
          const mark = bestArmOf(slice) === arm ? '*' : ' ';
          return formatNumber(found?.metrics.logloss ?? null, PROTOCOL_DIGITS) + mark;
        }),
      ]),
    ];
    return `${title}: ${loss}, ${unit} ${perRow}\n${alignColumns(columns, 1)}`;
  });
}

export interface ProtocolRow {
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
