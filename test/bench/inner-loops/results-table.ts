/** Formats the comparison with the peers as Markdown. */

import { circumstances, grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import {
  SETTING_TITLES,
  standingsOf,
  summaryOf,
  verdictOf,
  type CellResult,
  type Setting,
  type Standing,
} from './cell-results.js';
import { SIDE_NAMES } from './sides/sides.js';

export interface PeerComparison {
  readonly machine: BenchHeader;
  readonly versions: Readonly<Record<string, string>>;
  readonly roundCount: number;
  readonly runMs: number;
  readonly cells: readonly CellResult[];
}

const SETTING_NAMES: readonly Setting[] = ['one thread', 'two cores'];

export function comparisonMarkdown(comparison: PeerComparison): string {
  const { machine, versions, roundCount, runMs, cells } = comparison;
  const named = Object.entries(versions).map((entry) => entry.join(' '));
  return [
    '# Inner loops against JAX and PyTorch',
    '',
    `${circumstances(machine)} ${named.join(', ')}.`,
    `Whole meta steps on the same data, in tasks per second: medians over ${roundCount} rounds of ${runMs} ms. Ratios are those of our rate`,
    'to the fastest accurate peer, and to any. * marks contestants that are not accurate.',
    ...SETTING_NAMES.flatMap((setting) => ['', ...settingLines(setting, cells)]),
    '',
    ...variantLines(cells),
    '',
  ].join('\n');
}

function settingLines(setting: Setting, cells: readonly CellResult[]): string[] {
  const rows = cells.map((cell) => {
    const standings = standingsOf(cell, setting);
    const verdict = verdictOf(cell, setting);
    const best = SIDE_NAMES.map((side) => bestText(standings, side, setting));
    const gflops =
      verdict === null ? null : (cell.nominalGflop / cell.taskCount) * verdict.ours.tasksPerSecond;
    return [
      cell.cell,
      ...best,
      ratioText(verdict?.ratioToAccurate ?? null),
      ratioText(verdict?.ratioToAny ?? null),
      gflops === null ? '' : Math.round(gflops),
      Math.max(0, ...standings.map(({ otherCoresMax }) => otherCoresMax)).toFixed(2),
    ];
  });
  const header = [
    ...['cell', 'ours, tasks/s', 'JAX, tasks/s', 'PyTorch, tasks/s', 'ratio', 'ratio to any'],
    ...['our GFLOPS', 'other load, cores'],
  ];
  const summary = summaryOf(cells, setting);
  return [
    `## ${SETTING_TITLES[setting]}`,
    '',
    ...markdownTable(header, rows),
    ...(summary === null
      ? []
      : [
          '',
          `The geometric mean of the ${summary.cellCount} ratios is ${summary.mean.toFixed(2)}, ` +
            `and the smallest is ${summary.least.toFixed(2)}.`,
        ]),
  ];
}

/** The side's fastest accurate contestant, followed by a faster inaccurate one if there is one. */
function bestText(standings: readonly Standing[], side: string, setting: Setting): string {
  const own = standings.filter((standing) => standing.side === side);
  const accurate = own.find(({ isAccurate }) => isAccurate);
  const parts = own[0] === accurate ? [accurate] : [accurate, own[0]];
  return parts
    .flatMap((standing) => {
      if (standing === undefined) return [];
      const how = setting === 'one thread' ? '' : `, ${standing.arrangement}`;
      const mark = standing.isAccurate ? '' : '*';
      return `${grouped(Math.round(standing.tasksPerSecond))}${mark} (${standing.variant}${how})`;
    })
    .join('; ');
}

function ratioText(ratio: number | null): string {
  return ratio === null ? '' : ratio.toFixed(2);
}

function variantLines(cells: readonly CellResult[]): string[] {
  const rows = cells.flatMap(({ cell, variants }) =>
    variants.map((variant) => [
      cell,
      variant.side,
      variant.variant,
      variant.lookMs === null ? '' : variant.lookMs.toFixed(1),
      variant.firstStepMs === null ? '' : Math.round(variant.firstStepMs),
      variant.relativeError === null
        ? ''
        : `${variant.relativeError.toExponential(1)} (${variant.furthestTensor ?? ''})`,
      variant.skippedBecause === null ? '' : variant.skippedBecause.replaceAll('|', '/'),
    ]),
  );
  return [
    '## All variants, measured once on one thread',
    '',
    'Errors are against the update in float64, by the largest update of the tensor; above 1e-4, a variant is not accurate.',
    '',
    ...markdownTable(
      [
        ...['cell', 'side', 'variant', 'ms per step', 'first step, ms', 'error'],
        'reason if not measured',
      ],
      rows,
    ),
  ];
}
