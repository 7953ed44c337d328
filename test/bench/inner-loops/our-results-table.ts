/** The results of the engine alone as Markdown. */

import { grouped, markdownTable } from '../bench-header.js';
import { standingsOf, type CellResult } from './cell-results.js';
import { machineLines, type MachineDescription } from './machine-description.js';
import type { ProductResult } from './measure-products.js';
import type { ProfileResult, WorkResult } from './other-results.js';
import { productLines } from './results-table.js';

interface OurResults {
  readonly machine: MachineDescription;
  readonly versions: Readonly<Record<string, string>>;
  readonly products: readonly ProductResult[];
  readonly cells: readonly CellResult[];
  readonly works: readonly WorkResult[];
  readonly profiles: readonly ProfileResult[];
}

const SHARE_LEAST = 0.01;

export function ourMarkdown(results: OurResults): string {
  const { machine, versions, works } = results;
  return [
    '# Inner loops of the engine alone',
    '',
    ...machineLines(machine, versions),
    '',
    'Whole meta steps. Eager, captured and rewritten: milliseconds a step on one thread, looked at once;',
    'the rest are medians over rounds. GFLOPS count the textbook algorithm, so that saved work counts',
    'as done; the peak is that of a 1024 x 1024 x 1024 product on one thread.',
    '',
    ...cellLines(results),
    '',
    '## Other work, one thread',
    '',
    ...markdownTable(
      ['work', 'tasks/s', 'ms', 'first, ms', 'resident MiB'],
      works.map(({ name, tasksPerSecond, medianMs, firstMs, residentMiB }) => [
        ...[name, grouped(Math.round(tasksPerSecond)), medianMs.toFixed(1)],
        ...[Math.round(firstMs), residentMiB],
      ]),
    ),
    '',
    ...productLines(results.products),
    '',
    ...profileLines(results.profiles),
    '',
  ].join('\n');
}

function cellLines({ cells, products }: OurResults): string[] {
  const peak = products.find(({ threadCount }) => threadCount === 1)?.rates[0]?.gflops ?? null;
  const rows = cells.map((cell) => {
    const look = (name: string): string =>
      cell.variants.find(({ variant }) => variant === name)?.lookMs?.toFixed(1) ?? '';
    const [one] = standingsOf(cell, 'one thread');
    const two = standingsOf(cell, 'two cores');
    const rate = (arrangement: string): string => {
      const found = two.find((standing) => standing.arrangement === arrangement);
      return found === undefined ? '' : grouped(Math.round(found.tasksPerSecond));
    };
    const gflops = (cell.nominalGflop / cell.taskCount) * (one?.tasksPerSecond ?? 0);
    const first = cell.variants.find(({ variant }) => variant === one?.variant)?.firstStepMs;
    return [
      cell.cell,
      ...['eager', 'captured', 'rewritten'].map(look),
      grouped(Math.round(one?.tasksPerSecond ?? 0)),
      rate('two threads'),
      rate('two processes'),
      Math.round(gflops),
      peak === null ? '' : `${Math.round((100 * gflops) / peak)} %`,
      Math.round(first ?? 0),
      one?.residentMiB ?? 0,
    ];
  });
  const header = [
    ...['cell', 'eager', 'captured', 'rewritten', 'tasks/s, one thread', 'two threads'],
    ...['two processes', 'GFLOPS', 'of peak', 'first step, ms', 'resident MiB'],
  ];
  return markdownTable(header, rows);
}

function profileLines(profiles: readonly ProfileResult[]): string[] {
  return profiles.flatMap((profile) => [
    `## Profile of ${profile.cell}`,
    '',
    `${profile.nodeCount} nodes (${profile.recordedNodeCount} as recorded), captured in ` +
      `${Math.round(profile.captureMs)} ms; ${profile.totalMs.toFixed(1)} ms as the sum of each node alone.`,
    profile.byOp
      .filter(({ share }) => share >= SHARE_LEAST)
      .map(({ op, count, share }) => `${op} (${count}) ${Math.round(100 * share)} %`)
      .join(', ') + '.',
    '',
    ...markdownTable(
      ['largest operations', 'count', 'ms alone', 'share', 'GFLOPS'],
      profile.largest.map(({ operation, count, medianMs, share, gflops }) => [
        ...[operation, count, medianMs.toFixed(3), `${Math.round(100 * share)} %`],
        gflops === null ? '' : Math.round(gflops),
      ]),
    ),
    '',
  ]);
}
