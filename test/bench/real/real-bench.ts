/**
 * The product beside independent peers on real sets: logistic regression and LightGBM over target encodings, and a
 * DeepFM in PyTorch with fine-tuning, all on the same rows. Writes `infra/results/real.json` and `.md` after
 * each cell; a stopped bench resumes from its folder. What peers have found is kept for other commits, as long as they
 * read the same. Sets whose data is missing are left out.
 *
 *   npm run bench -- real --sets movielens-small,tabmo --seeds 1,2 --budget-minutes 2 --at-once 2
 *   npm run bench -- real --sets dbook --supports 10 --trials-max 2 --units logistic,lightgbm,auto
 */

import { existsSync, writeFileSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { at, numberAt } from '../../../shared/base/arrays.js';
import { SEARCH_TRIALS_MAX } from '../../../shared/config/auto-config.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader, folderOfCommit, type BenchHeader } from '../bench-header.js';
import { keepCell } from '../cell-record.js';
import { inLanes } from '../in-lanes.js';
import { withPython } from '../python-environment.js';
import type { Unit } from './arm-units.js';
import {
  cellKey,
  peerFiles,
  writeCell,
  type CellFiles,
  type RealCell,
  writtenCell,
  writeCellFiles,
  type WrittenCell,
} from './cell-files.js';
import { PRODUCT_SIDES, productUnit } from './product-units.js';
import { realPage } from './real-page.js';
import { RecordedCellSchema, type RecordedCell } from './real-record.js';
import { REAL_SETS, supportName, type RealSet } from './real-sets.js';
import { recordedCell } from './recorded-cell.js';
import { benchOptions } from '../bench-options.js';
import {
  amount,
  anySeed,
  listOf,
  oneOf,
  pythonOption,
  text,
  wholeNumber,
} from '../option-values.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import { qianmo } from '../qianmo-command.js';
import type { RoledRow } from './row-roles.js';
import { movielensSmallLog } from './set-logs.js';

const PEERS_FOLDER = new URL('test/bench/real/peers/', packageRoot).pathname;
const PEER_NAMES = ['logistic', 'lightgbm', 'deepfm', 'deepfm-support'] as const;
type PeerName = (typeof PEER_NAMES)[number];

const OUTPUT_BYTE_COUNT_MAX = 16 * 1024 * 1024;
const PEER_TIMEOUT_MS = 60 * 60_000;

/** Their libraries would each take all cores. */
const ONE_THREAD = { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1' };

const SummariesSchema = z.strictObject({
  summaries: z.array(
    z.strictObject({
      arm: z.string(),
      validationLogloss: z.number(),
      logloss: z.number(),
      auc: z.number().nullable(),
      settings: z.record(z.string(), z.unknown()),
    }),
  ),
});

interface PeerRoom {
  readonly python: string;
  /** The time for the search of each peer. */
  readonly secondsMax: number;
}

function peerUnit(
  name: PeerName,
  { folder }: Pick<CellFiles, 'folder'>,
  seed: number,
  { python, secondsMax }: PeerRoom,
): Unit {
  return {
    ...{ name, side: 'peer', folder },
    wanted: JSON.stringify({ seed, secondsMax, sources: sourcesDigest() }),
    run: async () => {
      const words = [join(PEERS_FOLDER, 'peer.py'), folder, name, String(seed)];
      const { stdout } = await promisify(execFile)(
        python,
        ['-B', '-W', 'ignore', ...words, String(secondsMax)],
        { maxBuffer: OUTPUT_BYTE_COUNT_MAX, timeout: PEER_TIMEOUT_MS, env: ONE_THREAD },
      );
      const { summaries } = SummariesSchema.parse(JSON.parse(stdout));
      return summaries.map(({ arm, validationLogloss, logloss, auc, settings }) => ({
        ...{ name: arm, validationLogloss, settings },
        claimed: { logloss, auc },
      }));
    },
  };
}

function sourcesDigest(): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(PEERS_FOLDER).sort())
    if (/\.(py|txt)$/.test(file)) hash.update(readFileSync(join(PEERS_FOLDER, file)));
  return hash.digest('hex').slice(0, 16);
}

const EXAMPLE = new URL('infra/examples/movielens.yaml', packageRoot);
const LOGS = new URL('infra/examples/movielens/movielens.csv.gz', packageRoot);
const ExampleSchema = z.looseObject({ seed: z.int(), data: z.looseObject({}) });

/** The seed of the example's config, which its division follows from. */
function demoSeed(): number {
  return ExampleSchema.parse(parse(readFileSync(EXAMPLE, 'utf8'))).seed;
}

async function writeDemoCell(set: RealSet, folder: string): Promise<WrittenCell> {
  const ofCell = resolve(folder, 'movielens-demo');
  mkdirSync(ofCell, { recursive: true });
  const example = ExampleSchema.parse(parse(readFileSync(EXAMPLE, 'utf8')));
  const store = join(ofCell, 'example-store');
  const config = join(ofCell, 'example.yaml');
  const data = { ...example.data, logs: LOGS.pathname, store };
  writeFileSync(config, stringify({ ...example, data, output: join(ofCell, 'example') }));
  qianmo('prepare', config);
  const opened = await openTaskStore(store, {});
  try {
    const log = movielensSmallLog();
    const files = {
      folder: ofCell,
      log: join(ofCell, 'rows.csv'),
      split: join(ofCell, 'split.csv'),
    };
    const roled = await rolesOfStore(opened);
    writeCellFiles(files, set, log, roled);
    return writtenCell(files, log, roled);
  } finally {
    await opened.close();
  }
}

/** Ascending by row. */
async function rolesOfStore(store: TaskStore): Promise<RoledRow[]> {
  const tasks = await store.readTasks(store.tasks.map(({ taskIndex }) => taskIndex));
  const roled = tasks.flatMap(({ taskIndex, supportRowCount, logRows }) => {
    const { key, split } = at(store.tasks, taskIndex);
    return Array.from(logRows, (_, place): RoledRow => {
      const part = place < supportRowCount ? 'support' : 'query';
      return { row: numberAt(logRows, place), task: key, role: `${split}-${part}` };
    });
  });
  return roled.sort((one, other) => one.row - other.row);
}

/** The key of the demo's cell in the record, and its name among the sets. */
const DEMO = 'movielens-demo';
const DEMO_SUPPORT = 'half of the rows';
const SECONDS_PER_MINUTE = 60;

const UNIT_NAMES: readonly string[] = [...PEER_NAMES, ...PRODUCT_SIDES.map(({ name }) => name)];

const header = benchHeader();
const SET_NAMES = [DEMO, ...REAL_SETS.map(({ name }) => name)];

const options = benchOptions(import.meta.url, {
  sets: {
    value: listOf(oneOf(SET_NAMES)),
    default: SET_NAMES.join(','),
    about: 'data sets, with commas between them',
  },
  supports: { value: listOf(wholeNumber(0)), about: 'support sizes by number; all by default' },
  seeds: { value: listOf(anySeed), default: '1,2,3,4,5', about: 'seeds, with commas between them' },
  'budget-minutes': {
    value: amount(),
    default: '1',
    about: 'for the search of each peer',
  },
  'trials-max': {
    value: wholeNumber(),
    default: String(SEARCH_TRIALS_MAX),
    about: 'trials of `auto`',
  },
  'at-once': { value: wholeNumber(), default: '1', about: 'cells; each takes one core' },
  units: {
    value: listOf(oneOf(UNIT_NAMES)),
    default: UNIT_NAMES.join(','),
    about: 'peers, and sides of the product',
  },
  folder: {
    value: text,
    default: folderOfCommit('real', header),
    about: 'folder of what the bench makes meanwhile',
  },
  'peers-folder': {
    value: text,
    default: 'runs/real/peers',
    about: 'for peers, which are kept by what they read',
  },
  data: {
    value: text,
    default: new URL('../shared/data/', packageRoot).pathname,
    about: 'folder of the data sets',
  },
  python: pythonOption,
});
const { units, 'budget-minutes': budgetMinutes, 'trials-max': trialsMax } = options;

async function bench(python: string): Promise<void> {
  const room = { python, secondsMax: budgetMinutes * SECONDS_PER_MINUTE };
  const budget = { budgetMinutes, trialsMax };
  const unitsOf = (cell: RealCell, files: CellFiles): Unit[] => {
    const ofPeers = peerFiles(files, cell.set, options['peers-folder']);
    return [
      ...PEER_NAMES.filter((name) => units.includes(name)).map((name) =>
        peerUnit(name, ofPeers, cell.seed, room),
      ),
      ...PRODUCT_SIDES.filter(({ name }) => units.includes(name)).map((side) =>
        productUnit(side, cell, files, trialsMax),
      ),
    ];
  };
  if (options.sets.includes(DEMO)) {
    const set = at(
      REAL_SETS.filter(({ name }) => name === 'movielens-small'),
      0,
    );
    const cell = { set, support: at(set.supports, 0), seed: demoSeed() };
    const written = await writeDemoCell(set, options.folder);
    const terms = {
      header: headerNow(),
      set: DEMO,
      support: DEMO_SUPPORT,
      seed: cell.seed,
      ...budget,
    };
    keep(DEMO, await recordedCell(written, unitsOf(cell, written.files), terms));
  }
  await inLanes(wantedCells(), options['at-once'], async (cell) => {
    const written = writeCell(cell, options.data, options.folder);
    const { set, support, seed } = cell;
    const named = { set: set.name, support: supportName(support), seed };
    const terms = { header: headerNow(), ...named, ...budget };
    keep(cellKey(cell), await recordedCell(written, unitsOf(cell, written.files), terms));
  });
}

/** The load as it is before a cell. */
function headerNow(): BenchHeader {
  return { ...benchHeader(), commit: header.commit };
}

function wantedCells(): RealCell[] {
  const { seeds, supports: sizes } = options;
  const names = options.sets.filter((name) => name !== DEMO);
  return REAL_SETS.filter(({ name }) => names.includes(name)).flatMap((set) => {
    if (set.needs !== undefined && !existsSync(join(options.data, set.needs))) {
      process.stderr.write(`left out: ${set.name}, whose data is not in ${options.data}\n`);
      return [];
    }
    const supports = set.supports.filter(({ count }) => sizes?.includes(count) ?? true);
    return seeds.flatMap((seed) => supports.map((support) => ({ set, support, seed })));
  });
}

function keep(key: string, cell: RecordedCell): void {
  keepCell('real', RecordedCellSchema, [key, cell], realPage);
}

const environment = {
  ...{ name: 'real', script: 'bench -- real' },
  requirements: join(PEERS_FOLDER, 'requirements.txt'),
};
await withPython(environment, options.python, bench);
