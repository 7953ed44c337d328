/**
 * Learning curves: the loss after 0, 1, 5, ... support rows of each test adgroup, of a global model, a level, gradient
 * steps and posterior blocks, on real sets and on synthetic worlds, where the generator's own posterior is the ceiling. Writes
 * `infra/results/evidence.json`, its page and its picture after each cell; a stopped bench resumes from its folder. Sets whose data
 * is missing are left out.
 *
 *   npm run bench -- evidence --at-once 2
 *   npm run bench -- evidence --sets world-10,movielens-1m --seeds 1
 */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { at, numberAt } from '../../../shared/base/arrays.js';
import { randomStream } from '../../../shared/base/random.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader, folderOfCommit } from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { keepCell } from '../cell-record.js';
import { inLanes } from '../in-lanes.js';
import { MARKET } from '../market/market-settings.js';
import { anySeed, listOf, oneOf, text, wholeNumber } from '../option-values.js';
import { writeCell } from '../real/cell-files.js';
import { REAL_SETS, type RealSet } from '../real/real-sets.js';
import type { RoledRow } from '../real/row-roles.js';
import type { SetLog } from '../real/set-logs.js';
import { armCurves, lossOf, pointsUpTo, type ArmCurves } from './evidence-arms.js';
import { evidencePage, evidencePicture } from './evidence-page.js';
import { EvidenceCellSchema, type EvidenceCell } from './evidence-record.js';
import { ceilingLosses, WORLD_SIZES, writeEvidenceWorld } from './evidence-world.js';

/** Support rows of the test adgroups, and the seeds that divide the set; a world is drawn anew by each seed. */
interface EvidenceSet {
  readonly name: string;
  readonly supportRows: number;
  readonly seedCount: number;
  /** The click rate of a world. A real set has `of`, its name, instead. */
  readonly clickRate?: number;
  readonly of?: string;
}

const SETS: readonly EvidenceSet[] = [
  { name: 'world-3.6', supportRows: 5_000, seedCount: 5, clickRate: 0.036 },
  { name: 'world-10', supportRows: 5_000, seedCount: 5, clickRate: 0.1 },
  { name: 'movielens-1m', supportRows: 100, seedCount: 3, of: 'movielens-1m' },
  { name: 'movielens-1m-long', supportRows: 200, seedCount: 1, of: 'movielens-1m' },
  { name: 'dbook', supportRows: 50, seedCount: 3, of: 'dbook' },
  { name: 'tabmo', supportRows: 50, seedCount: 3, of: 'tabmo' },
  { name: 'avazu-9k', supportRows: 20, seedCount: 3, of: 'avazu-9k' },
  { name: 'open-bandit', supportRows: 200, seedCount: 3, of: 'open-bandit' },
];

/** The column that orders the support rows of an adgroup: their time or, in a set without one, a draw. */
const ORDER = 'row_order';

const PICTURE = new URL('infra/results/evidence.svg', packageRoot);
const SEED_COUNT_MAX = Math.max(...SETS.map(({ seedCount }) => seedCount));
const header = benchHeader();
const options = benchOptions(import.meta.url, {
  sets: {
    value: listOf(oneOf(SETS.map(({ name }) => name))),
    default: SETS.map(({ name }) => name).join(','),
    about: 'worlds and real sets, with commas between them',
  },
  seeds: {
    value: listOf(anySeed),
    about: `seeds, with commas between them; by default those of each set, at most ${SEED_COUNT_MAX}`,
  },
  'at-once': { value: wholeNumber(), default: '1', about: 'cells; each takes one core' },
  folder: {
    value: text,
    default: folderOfCommit('evidence', header),
    about: 'folder of what the bench makes meanwhile',
  },
  data: {
    value: text,
    default: new URL('../shared/data/', packageRoot).pathname,
    about: 'folder of the data sets',
  },
});

interface Cell {
  readonly set: EvidenceSet;
  readonly seed: number;
}

await inLanes(wantedCells(), options['at-once'], async (cell) => {
  const { commit: _, ...now } = benchHeader();
  const made = cell.set.clickRate === undefined ? await realCell(cell) : await worldCell(cell);
  const key = `${cell.set.name}/${cell.seed}`;
  const kept: EvidenceCell = { ...made, ...now, commit: header.commit };
  keepCell('evidence', EvidenceCellSchema, [key, kept], (record) => {
    writeFileSync(PICTURE, evidencePicture(record));
    return evidencePage(record);
  });
});

/** One seed of every set before the next seed. */
function wantedCells(): Cell[] {
  const chosen = SETS.filter(({ name, of }) => {
    const needs = of === undefined ? undefined : realSet(of).needs;
    if (!options.sets.includes(name)) return false;
    if (needs === undefined || existsSync(join(options.data, needs))) return true;
    process.stderr.write(`left out: ${name}, whose data is not in ${options.data}\n`);
    return false;
  });
  const counted = Array.from({ length: SEED_COUNT_MAX }, (_, index) => index + 1);
  return (options.seeds ?? counted).flatMap((seed) =>
    chosen
      .filter(({ seedCount }) => options.seeds !== undefined || seed <= seedCount)
      .map((set) => ({ set, seed })),
  );
}

type MadeCell = Omit<EvidenceCell, 'commit' | 'date' | 'machine' | 'loadBefore'>;

async function worldCell({ set, seed }: Cell): Promise<MadeCell> {
  const folder = resolve(options.folder, set.name, String(seed));
  mkdirSync(folder, { recursive: true });
  const [log, split] = [join(folder, 'rows.csv'), join(folder, 'split.csv')];
  const { clickRate = NaN, supportRows } = set;
  const world = writeEvidenceWorld({ log, split }, { clickRate, seed, sizes: WORLD_SIZES });
  const { task, label, time, features } = MARKET.run.data;
  const curves = await armCurves({
    ...{ folder, seed, supportRows, roled: world.roled, oracleColumn: 'p_true' },
    data: {
      ...{ logs: log, splitFile: split, task, label, time },
      features: [{ name: 'user', kind: 'category' }, ...features],
    },
  });
  const ceilings = ceilingLosses(world, pointsUpTo(supportRows));
  return cellOf({ set, seed }, 'world', world.roled, {
    ...curves,
    losses: { ...curves.losses, ...ceilings },
  });
}

async function realCell({ set, seed }: Cell): Promise<MadeCell> {
  const { supportRows, of = '' } = set;
  const ofSet = realSet(of);
  const ordered: RealSet = {
    ...ofSet,
    log: (...places) => withOrder(ofSet.log(...places)),
  };
  const rule = { by: 'rows', count: supportRows } as const;
  const cell = { set: ordered, support: rule, seed };
  const { files, roled } = writeCell(cell, options.data, options.folder);
  const curves = await armCurves({
    ...{ folder: files.folder, seed, supportRows, roled },
    data: {
      ...{ logs: files.log, splitFile: files.split, task: 'task', time: ORDER },
      label: { clicks: 'clicks', impressions: 'impressions' },
      features: ofSet.features,
    },
  });
  return cellOf({ set, seed }, 'real', roled, curves);
}

function realSet(name: string): RealSet {
  return at(
    REAL_SETS.filter((set) => set.name === name),
    0,
  );
}

function withOrder(log: SetLog): SetLog {
  const stream = randomStream(0, 'evidence order');
  const order = log.times ?? log.tasks.map(() => stream.uniform());
  return {
    ...log,
    columns: [...log.columns, ORDER],
    cells: log.cells.map((cells, row) => [...cells, String(numberAt(order, row))]),
  };
}

function cellOf(
  { set, seed }: Cell,
  kind: EvidenceCell['kind'],
  roled: readonly RoledRow[],
  { losses, report, seconds }: ArmCurves,
): MadeCell {
  const tasksOf = (split: string): number =>
    new Set(roled.filter(({ role }) => role.startsWith(`${split}-`)).map(({ task }) => task)).size;
  const slice = at(report.slices, 0);
  return {
    ...{ set: set.name, kind, seed, supportRows: set.supportRows, seconds },
    taskCounts: {
      ...{ train: tasksOf('train'), validation: tasksOf('validation'), test: tasksOf('test') },
    },
    testRowCount: slice.queryRowCount,
    clickRate: slice.clicks / slice.impressions,
    oracle: kind === 'world' ? lossOf(slice, 'oracle') : null,
    points: pointsUpTo(set.supportRows).map((supportRows, place) => ({
      supportRows,
      losses: Object.fromEntries(
        Object.entries(losses).map(([arm, values]) => [arm, at(values, place)]),
      ),
    })),
  };
}
