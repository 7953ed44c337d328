/** The generator's bench as Markdown. */

import { grouped, markdownTable } from '../bench-header.js';
import {
  SETTINGS,
  standingsOf,
  type CellResult,
  type Setting,
} from '../inner-loops/cell-results.js';
import { machineLines, type MachineDescription } from '../inner-loops/machine-description.js';
import type { QueueRunResult } from './generator-queue.js';

/** The peer's variant that only states the mathematics. */
export const PLAIN = 'plain';

export interface GeneratorComparison {
  readonly machine: MachineDescription;
  readonly versions: Readonly<Record<string, string>>;
  readonly roundCount: number;
  readonly runMs: number;
  readonly cells: readonly CellResult[];
  readonly queue: readonly QueueRunResult[];
}

interface GeneratorRow {
  readonly name: string;
  readonly tasksPerSecond: number;
  readonly arrangement: string;
  /**
   * Our throughput relative to the peer's plain variant and to its fastest accurate one; null for
   * the peer itself.
   */
  readonly overPlain: number | null;
  readonly overBest: number | null;
  readonly otherCoresMax: number;
}

/** Every accurate contestant in its best arrangement, ours first. */
export function rowsOf(cell: CellResult, setting: Setting): GeneratorRow[] {
  const accurate = standingsOf(cell, setting).filter(({ isAccurate }) => isAccurate);
  // The list is sorted fastest first, so later arrangements of a variant are slower.
  const best = accurate.filter(
    (one, place) =>
      accurate.findIndex(({ side, variant }) => side === one.side && variant === one.variant) ===
      place,
  );
  const peers = best.filter(({ side }) => side !== 'ours');
  const plain = peers.find(({ variant }) => variant === PLAIN);
  const ratioTo = (peer: { tasksPerSecond: number } | undefined, own: number): number | null =>
    peer === undefined ? null : own / peer.tasksPerSecond;
  return [...best.filter(({ side }) => side === 'ours'), ...peers].map((one) => ({
    name: one.side === 'ours' ? `ours, ${one.variant}` : `PyTorch, ${one.variant}`,
    tasksPerSecond: one.tasksPerSecond,
    arrangement: one.arrangement,
    overPlain: one.side === 'ours' ? ratioTo(plain, one.tasksPerSecond) : null,
    overBest: one.side === 'ours' ? ratioTo(peers[0], one.tasksPerSecond) : null,
    otherCoresMax: one.otherCoresMax,
  }));
}

export function generatorMarkdown(comparison: GeneratorComparison): string {
  const { machine, versions, roundCount, runMs, cells, queue } = comparison;
  return [
    "# The generator's training step of Meta-Embedding against PyTorch",
    '',
    ...machineLines(machine, versions),
    '',
    'Tasks of 20 + 20 rows on a frozen DeepFM (width 128, tower 1024-128-128, eight fields, titles of 8 and',
    'genres of 4 members): the generator made anew from attributes, judged cold and after one inner step,',
    'its gradient with the Hessian term, and a step along it. Films, users and rows are drawn from a seed.',
    `Tasks a second, medians over ${roundCount} rounds of ${runMs} ms in which all contestants take turns; "other" is`,
    'the most that others took of the machine in any round, in cores. `npm run bench:generator` repeats it.',
    '',
    '- `ours, graph`: the captured gradient and the step, batches on the device. `ours, job`: besides, all',
    '  that coordinator and worker do but reading rows, hashing and the queue: what learns encoded, decoded and',
    '  uploaded, the gradient read back, encoded and decoded. The frozen base lies on the device.',
    '- `PyTorch, plain`: autograd through the whole model. `split`: what the frozen base says of the other',
    '  fields without a tape, the generated embedding once per task. `by-task`: besides, fields that all',
    '  rows of a task share once per task. `compile-`: by torch.func through torch.compile. Ids are on the device.',
    ...cells.flatMap((cell) => ['', ...cellLines(cell)]),
    ...(queue.length === 0 ? [] : ['', ...queueLines(queue)]),
    '',
    ...lookLines(cells),
    '',
  ].join('\n');
}

function cellLines(cell: CellResult): string[] {
  const sections = (['one thread', 'two cores'] as const).flatMap((setting) => {
    const rows = rowsOf(cell, setting).map((row) => [
      row.name,
      ...(setting === 'one thread' ? [] : [row.arrangement]),
      grouped(Math.round(row.tasksPerSecond)),
      row.overPlain?.toFixed(2) ?? '',
      row.overBest?.toFixed(2) ?? '',
      row.otherCoresMax.toFixed(2),
    ]);
    const header = [
      `${setting}: ${SETTINGS[setting].join(' or ')}`,
      ...(setting === 'one thread' ? [] : ['arrangement']),
      ...['tasks/s', 'over plain', 'over the fastest', 'other'],
    ];
    return ['', ...markdownTable(header, rows)];
  });
  return [`## ${cell.taskCount} tasks a step`, ...sections];
}

function queueLines(queue: readonly QueueRunResult[]): string[] {
  return [
    '## Training over the queue, two workers',
    '',
    'Coordinator (Adam, gathering, sums), Redis and two worker processes share the two cores; all between',
    'one outer step and the next counts.',
    '',
    ...markdownTable(
      ['tasks an outer step', 'tasks a job', 'outer steps', 'ms a step, median', 'tasks/s'],
      queue.map((run) => [
        ...[run.tasksPerOuterStep, run.tasksPerJob, run.stepCount],
        ...[run.medianStepMs.toFixed(1), grouped(Math.round(run.tasksPerSecond))],
      ]),
    ),
  ];
}

function lookLines(cells: readonly CellResult[]): string[] {
  return [
    '## Every variant, looked at once on one thread',
    '',
    'Error: largest difference from the update in float64 (task by task, row by row), beyond one rounding of',
    'the stored value, over the largest update.',
    '',
    ...markdownTable(
      [
        'tasks a step',
        'side',
        'variant',
        'ms a step',
        'first step, ms',
        'error',
        'not measured because',
      ],
      cells.flatMap(({ taskCount, variants }) =>
        variants.map((variant) => [
          ...[taskCount, variant.side, variant.variant],
          variant.lookMs?.toFixed(1) ?? '',
          variant.firstStepMs === null ? '' : Math.round(variant.firstStepMs),
          variant.relativeError?.toExponential(1) ?? '',
          variant.skippedBecause?.replaceAll('|', '/') ?? '',
        ]),
      ),
    ),
  ];
}
