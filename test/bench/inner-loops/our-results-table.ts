/** Formats the results of the engine alone as Markdown. */

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
    'Each row is a whole meta step. The columns eager, captured and rewritten give milliseconds per step on one',
    'thread, measured once. The other figures are medians over rounds. GFLOPS count the operations of the textbook',
    'algorithm, so operations that were optimised away count as done. The peak is the rate of a 1024 x 1024 x 1024',
    'product on one thread.',
    '',
    ...cellLines(results),
    '',
    '## Other workloads, one thread',
    '',
    ...markdownTable(
      ['workload', 'tasks/s', 'median ms', 'first run, ms', 'resident MiB'],
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
    ...['cell', 'eager, ms', 'captured, ms', 'rewritten, ms', 'one thread, tasks/s'],
    ...['two threads, tasks/s', 'two processes, tasks/s', 'GFLOPS', 'share of peak'],
    ...['first step, ms', 'resident MiB'],
  ];
  return markdownTable(header, rows);
}

function profileLines(profiles: readonly ProfileResult[]): string[] {
  return profiles.flatMap((profile) => [
    `## Profile of ${profile.cell}`,
    '',
    `The graph has ${profile.nodeCount} nodes (${profile.recordedNodeCount} as recorded). Capture took ` +
      `${Math.round(profile.captureMs)} ms. Run one at a time, the nodes take ${profile.totalMs.toFixed(1)} ms in total.`,
    profile.byOp
      .filter(({ share }) => share >= SHARE_LEAST)
      .map(({ op, count, share }) => `${op} (${count}) ${Math.round(100 * share)} %`)
      .join(', ') + '.',
    '',
    ...markdownTable(
      ['largest operations', 'count', 'ms each', 'share of total', 'GFLOPS'],
      profile.largest.map(({ operation, count, medianMs, share, gflops }) => [
        ...[operation, count, medianMs.toFixed(3), `${Math.round(100 * share)} %`],
        gflops === null ? '' : Math.round(gflops),
      ]),
    ),
    '',
  ]);
}
