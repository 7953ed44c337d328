/** Formats the comparison with the peers as Markdown. */

import { grouped, markdownTable } from '../bench-header.js';
import {
  SETTING_TITLES,
  standingsOf,
  summaryOf,
  verdictOf,
  type CellResult,
  type Setting,
  type Standing,
} from './cell-results.js';
import { machineLines, type MachineDescription } from './machine-description.js';
import { SIDE_NAMES } from './sides/sides.js';

export interface PeerComparison {
  readonly machine: MachineDescription;
  readonly versions: Readonly<Record<string, string>>;
  readonly roundCount: number;
  readonly runMs: number;
  readonly cells: readonly CellResult[];
}

const SETTING_NAMES: readonly Setting[] = ['one thread', 'two cores'];

export function comparisonMarkdown(comparison: PeerComparison): string {
  const { machine, versions, roundCount, runMs, cells } = comparison;
  return [
    '# Inner loops against JAX and PyTorch',
    '',
    ...machineLines(machine, versions),
    '',
    'Each contestant computes whole meta steps (gradient and update of every parameter) on the same data. Throughput',
    `is in tasks per second, the median over ${roundCount} rounds of ${runMs} ms in which all contestants of a cell take turns.`,
    '"Other load" is the largest number of cores that other processes used in any round. "Ratio" is our throughput',
    'divided by that of the fastest accurate peer. "Ratio to any" divides it by that of the fastest peer, accurate or',
    'not. Figures of inaccurate contestants are marked with *.',
    ...otherCommitLines(machine.commit, cells),
    ...SETTING_NAMES.flatMap((setting) => ['', ...settingLines(setting, cells)]),
    '',
    ...variantLines(cells),
    '',
  ].join('\n');
}

/** Names the cells kept from earlier runs; empty if there are none. */
function otherCommitLines(commit: string, cells: readonly CellResult[]): string[] {
  const others = cells.filter((cell) => cell.commit !== commit);
  const names = (of: string): string =>
    others.flatMap(({ cell, commit: own }) => (own === of ? [cell] : [])).join(', ');
  const commits = [...new Set(others.map((cell) => cell.commit))];
  return commits.length === 0
    ? []
    : [
        '',
        ...commits.map(
          (of) => `Measured at commit ${of} on the same kind of machine: ${names(of)}.`,
        ),
      ];
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
    'The error is the largest difference from the update in float64, beyond one rounding of the stored value, divided',
    'by the largest update of the tensor. A variant with an error above 1e-4 is not accurate. The first step',
    'includes tracing and compiling.',
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
