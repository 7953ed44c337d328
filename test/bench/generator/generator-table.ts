/** Formats the results of the generator's bench as Markdown. */

import { grouped, markdownTable } from '../bench-header.js';
import {
  SETTING_TITLES,
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
    'Each task has 20 + 20 rows. The base model is a frozen DeepFM (width 128, tower 1024-128-128, eight fields,',
    'titles of 8 and genres of 4 members). A step generates the embeddings from attributes, scores them cold and',
    "after one inner step, computes the generator's gradient with the Hessian term, and updates the generator.",
    'Films, users and rows are drawn from a seed. Throughput is in tasks per second, the median over',
    `${roundCount} rounds of ${runMs} ms in which all contestants take turns. "Other load" is the largest number of cores`,
    'that other processes used in any round. To repeat the measurement, run `npm run bench:generator`.',
    '',
    '- `ours, graph`: the captured gradient and the update, with the batches on the device.',
    '- `ours, job`: in addition, all work of coordinator and worker except reading rows, hashing and the queue.',
    '  This includes encoding, decoding and uploading the learned parameters, and reading back, encoding and',
    '  decoding the gradient. The frozen base stays on the device.',
    '- `PyTorch, plain`: autograd through the whole model. `split`: the part of the frozen base that depends on the',
    '  other fields is computed without a tape, and the embedding is generated once per task. `by-task`: in',
    '  addition, fields that all rows of a task share are computed once per task. `compile-`: torch.func compiled',
    '  with torch.compile. Ids are on the device.',
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
      'contestant',
      ...(setting === 'one thread' ? [] : ['arrangement']),
      ...['tasks/s', 'ratio to plain', 'ratio to fastest peer', 'other load, cores'],
    ];
    return ['', `### ${SETTING_TITLES[setting]}`, '', ...markdownTable(header, rows)];
  });
  return [`## ${cell.taskCount} tasks per step`, ...sections];
}

function queueLines(queue: readonly QueueRunResult[]): string[] {
  return [
    '## Training over the queue, two workers',
    '',
    'The coordinator (Adam, gathering, sums), Redis and two worker processes share the two cores. The time of a',
    'step is the whole time from one outer step to the next.',
    '',
    ...markdownTable(
      ['tasks per outer step', 'tasks per job', 'outer steps', 'median ms per step', 'tasks/s'],
      queue.map((run) => [
        ...[run.tasksPerOuterStep, run.tasksPerJob, run.stepCount],
        ...[run.medianStepMs.toFixed(1), grouped(Math.round(run.tasksPerSecond))],
      ]),
    ),
  ];
}

function lookLines(cells: readonly CellResult[]): string[] {
  return [
    '## All variants, measured once on one thread',
    '',
    'The error is the largest difference from the update in float64 (computed task by task and row by row), beyond',
    'one rounding of the stored value, divided by the largest update.',
    '',
    ...markdownTable(
      [
        'tasks per step',
        'side',
        'variant',
        'ms per step',
        'first step, ms',
        'error',
        'reason if not measured',
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
