/**
 * Ways to adapt, and what each adds to inputs from support rows and to a shift of the level, on the sets of the bench of real sets.
 * Writes `infra/results/adaptation.json` and `.md` after each cell; a stopped bench resumes from its folder.
 *
 *   npm run bench:adaptation -- --sets dbook,movielens-1m --seeds 1,2,3 --at-once 2
 *   npm run bench:adaptation -- --ways nothing,shift,steps --inputs rate
 */

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { at } from '../../../shared/base/arrays.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { benchHeader, folderOfCommit } from '../bench-header.js';
import { inLanes } from '../in-lanes.js';
import { keptOrRun, predictionsPath } from '../real/arm-units.js';
import {
  cellKey,
  readPredictions,
  writeCell,
  type RealCell,
  type WrittenCell,
} from '../real/cell-files.js';
import { REAL_SETS, supportName } from '../real/real-sets.js';
import { pairedDifference, scoredArm, type ScoredArm } from '../real/scored-arms.js';
import {
  adaptationUnit,
  INPUTS,
  servedArm,
  WAYS,
  type Inputs,
  type WayName,
} from './adaptation-arms.js';
import { adaptationPage } from './adaptation-page.js';
import {
  readAdaptations,
  writeAdaptations,
  type AdaptationArm,
  type AdaptationCell,
} from './adaptation-record.js';
import { benchOptions } from '../options/bench-options.js';
import { listOf, oneOf, anySeed, text, wholeNumber } from '../options/option-values.js';

const header = benchHeader();
const WAY_NAMES = Object.keys(WAYS) as WayName[];
/** Where each has its best chance first: many tasks, and features that say something of the whole task. */
const SETS = ['dbook', 'movielens-1m', 'movielens-small', 'avazu-9k', 'tabmo'];

const options = benchOptions(import.meta.url, {
  sets: {
    value: listOf(oneOf(REAL_SETS.map(({ name }) => name))),
    default: SETS.join(','),
    about: 'data sets, with commas between them',
  },
  seeds: { value: listOf(anySeed), default: '1,2,3', about: 'seeds, with commas between them' },
  ways: {
    value: listOf(oneOf(WAY_NAMES)),
    default: WAY_NAMES.join(','),
    about: 'ways to adapt, with commas between them',
  },
  inputs: {
    value: listOf(oneOf(INPUTS)),
    default: INPUTS.join(','),
    about: 'inputs from support rows, with commas between them',
  },
  'at-once': { value: wholeNumber(), default: '1', about: 'cells; each takes one core' },
  folder: {
    value: text,
    default: folderOfCommit('adaptation', header),
    about: 'folder of what the bench makes meanwhile',
  },
  data: {
    value: text,
    default: new URL('../shared/data/', packageRoot).pathname,
    about: 'folder of the data sets',
  },
});
const { ways, inputs } = options;

/** One support size of each set: ten rows, or one day. */
function wantedCells(): RealCell[] {
  const sets = options.sets.map((name) =>
    at(
      REAL_SETS.filter((set) => set.name === name),
      0,
    ),
  );
  return options.seeds.flatMap((seed) =>
    sets
      .filter(({ needs }) => needs === undefined || existsSync(join(options.data, needs)))
      .map((set) => {
        const support = set.supports.find(({ count }) => count === 10) ?? at(set.supports, 0);
        return { set, support, seed };
      }),
  );
}

async function measured(cell: RealCell): Promise<AdaptationCell> {
  const { set, support, seed } = cell;
  const { loadBefore } = benchHeader();
  const written = writeCell(cell, options.data, options.folder);
  const arms: AdaptationArm[] = [];
  for (const each of inputs) arms.push(...(await armsOf(cell, written, each)));
  const { test, taskCounts } = written;
  return {
    ...{ set: set.name, support: supportName(support), seed },
    ...{ ...header, loadBefore, taskCounts, testRowCount: test.rows.length, arms },
  };
}

async function armsOf(
  cell: RealCell,
  written: WrittenCell,
  input: Inputs,
): Promise<AdaptationArm[]> {
  const { test } = written;
  const scored = new Map<WayName, ScoredArm>();
  const measures: Pick<AdaptationArm, 'way' | 'validationLogloss' | 'seconds'>[] = [];
  for (const way of ways) {
    process.stderr.write(`${cell.set.name}, seed ${cell.seed}: ${input}, ${way}\n`);
    const unit = adaptationUnit(cell, written, input, way);
    const { arms, seconds } = await keptOrRun(unit);
    const served = servedArm(input, way);
    const { validationLogloss = null } = arms.find(({ name }) => name === served) ?? {};
    measures.push({ way, validationLogloss, seconds });
    scored.set(way, scoredArm(readPredictions(predictionsPath(unit, served), test), test));
  }
  const from = (one: ScoredArm, other: WayName): AdaptationArm['fromShift'] => {
    const reference = scored.get(other);
    if (reference === undefined || reference === one) return null;
    return pairedDifference(one, reference, test, cell.seed);
  };
  return [...scored.values()].map((score, place) => ({
    ...{ inputs: input, ...at(measures, place), logloss: score.logloss },
    ...{ fromNothing: from(score, 'nothing'), fromShift: from(score, 'shift') },
  }));
}

await inLanes(wantedCells(), options['at-once'], async (cell) => {
  const found = await measured(cell);
  writeAdaptations({ cells: { ...readAdaptations().cells, [cellKey(cell)]: found } });
  const page = new URL('infra/results/adaptation.md', packageRoot);
  // As it was rounded.
  writeFileSync(page, adaptationPage(readAdaptations()));
});
