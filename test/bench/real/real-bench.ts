/**
 * The product beside independent peers on real sets: logistic regression and LightGBM over target encodings, and a
 * DeepFM in PyTorch with fine-tuning, all on the same rows. Writes `infra/results/real.json` and `.md` after
 * each cell; a stopped bench resumes from its folder. What peers have found is kept for other commits, as long as they
 * read the same. Sets whose data is missing are left out.
 *
 *   npm run bench -- real --sets movielens-small,tabmo --seeds 1,2 --budget-minutes 2 --at-once 2
 *   npm run bench -- real --sets dbook --supports 10 --trials-max 2 --units logistic,lightgbm,auto
 */

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatFailure, QianmoError } from '../../../shared/base/errors.js';
import { at } from '../../../shared/base/arrays.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader, folderOfCommit, type BenchHeader } from '../bench-header.js';
import { inLanes } from '../in-lanes.js';
import { installedPython } from '../python-environment.js';
import type { Unit } from './arm-units.js';
import { cellKey, peerFiles, writeCell, type CellFiles, type RealCell } from './cell-files.js';
import { demoSeed, writeDemoCell } from './demo-cell.js';
import { PEER_NAMES, PEERS_FOLDER, peerUnit } from './peer-units.js';
import { PRODUCT_SIDES, productUnit } from './product-units.js';
import { realPage } from './real-page.js';
import { readRecord, writeRecord, type RecordedCell } from './real-record.js';
import { REAL_SETS, supportName } from './real-sets.js';
import { recordedCell } from './recorded-cell.js';
import { benchOptions } from '../options/bench-options.js';
import { amount, listOf, oneOf, anySeed, text, wholeNumber } from '../options/option-values.js';

/** The key of the demo's cell in the record, and its name among the sets. */
const DEMO = 'movielens-demo';
const DEMO_SUPPORT = 'half of the rows';
const RESULTS = new URL('infra/results/', packageRoot).pathname;
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
    about: 'for the search of each peer, and that of `auto`',
  },
  'trials-max': {
    value: wholeNumber(),
    about: 'trials of `auto` instead of a budget of time, for machines that other work keeps busy',
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
  python: {
    value: text,
    about: 'a Python with the peers installed; by default one is created in the cache',
  },
});
const { units, 'budget-minutes': budgetMinutes } = options;
const trialsMax = options['trials-max'] ?? null;

async function bench(): Promise<void> {
  const python =
    options.python ??
    installedPython(
      {
        ...{ name: 'real', script: 'bench -- real' },
        requirements: join(PEERS_FOLDER, 'requirements.txt'),
      },
      (text) => process.stderr.write(`${text}\n`),
    );
  const room = { python, secondsMax: budgetMinutes * SECONDS_PER_MINUTE };
  const budget = { budgetMinutes, trialsMax };
  const unitsOf = (cell: RealCell, files: CellFiles): Unit[] => {
    const ofPeers = peerFiles(files, cell.set, options['peers-folder']);
    return [
      ...PEER_NAMES.filter((name) => units.includes(name)).map((name) =>
        peerUnit(name, ofPeers, cell.seed, room),
      ),
      ...PRODUCT_SIDES.filter(({ name }) => units.includes(name)).map((side) =>
        productUnit(side, cell, files, budget),
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
  writeRecord({ cells: { ...readRecord().cells, [key]: cell } });
  // Read again, because writing rounds.
  writeFileSync(join(RESULTS, 'real.md'), realPage(readRecord()));
}

try {
  await bench();
} catch (error) {
  if (!(error instanceof QianmoError)) throw error;
  process.stderr.write(`${formatFailure(error)}\n`);
  process.exitCode = error.exitCode;
}
