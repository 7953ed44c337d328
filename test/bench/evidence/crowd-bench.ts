/**
 * Crowds beside adgroups, in synthetic worlds where both deviate, adgroups alone or crowds alone: the loss on new adgroups with
 * blocks of adgroups, of crowds and of both, and with the crowd as an ordinary category. Writes `infra/results/crowds.json` and
 * its page after each seed of a world; a stopped bench resumes from its folder.
 *
 *   npm run bench -- crowds
 *   npm run bench -- crowds --worlds both --seeds 1
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import {
  parseReport,
  REPORT_FILE,
  type EvaluationReport,
} from '../../../coordinator/scoring/evaluation-report.js';
import { at } from '../../../shared/base/arrays.js';
import { benchHeader, folderOfCommit } from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { keepCell } from '../cell-record.js';
import { inLanes } from '../in-lanes.js';
import { anySeed, listOf, oneOf, text, wholeNumber } from '../option-values.js';
import { quietQianmo } from '../real/product-units.js';
import { CROWD_ARMS, CrowdCellSchema, crowdPage, WORLDS, type CrowdCell } from './crowd-page.js';
import { lossOf } from './evidence-arms.js';

const LOG = ['--rows', '300k', '--adgroups', '1500', '--users', '20k', '--crowds', '400'];
/** Profiles of users, attributes of adgroups, and the crowd last. */
const FEATURES = [
  ...['age', 'gender', 'city', 'shopping', 'occupation', 'category', 'slot', 'hour'].map(
    (name) => ({ name, kind: 'category' }),
  ),
  ...['brand', 'advertiser'].map((name) => ({ name, kind: 'category', countMin: 20 })),
  { name: 'price', kind: 'number', scale: 'log-standard' },
  { name: 'crowd', kind: 'category' },
];
const RUN = {
  model: {
    ...{ kind: 'deepfm', embeddingWidth: 8, hiddenWidths: [32, 16], embeddingDeviation: 0.05 },
    personal: ['bias', 'output'],
  },
  training: {
    ...{ outerSteps: 500, rowsPerOuterStep: 2_048, tasksPerOuterStep: 16, sampling: 'uniform' },
    optimizer: { kind: 'adam', rate: 0.003 },
    ...{ weightDecay: 0.02, dropout: 0.2, inputDropout: 0.2, gradientNormMax: 5 },
    ...{ taskWeight: 'examples', biasStart: 'click-rate' },
    schedule: { warmupOuterSteps: 20, decay: 'cosine', finalShare: 0.05 },
  },
};

const header = benchHeader();
const options = benchOptions(import.meta.url, {
  worlds: {
    value: listOf(oneOf(Object.keys(WORLDS))),
    default: Object.keys(WORLDS).join(','),
    about: 'worlds, with commas between them',
  },
  seeds: { value: listOf(anySeed), default: '1,2,3,4,5', about: 'seeds of worlds and runs' },
  'at-once': { value: wholeNumber(), default: '1', about: 'worlds; each takes one core' },
  folder: {
    value: text,
    default: folderOfCommit('crowds', header),
    about: 'folder of what the bench makes meanwhile',
  },
});

const cells = options.seeds.flatMap((seed) => options.worlds.map((world) => ({ world, seed })));
await inLanes(cells, options['at-once'], async ({ world, seed }) => {
  const { commit: _, ...now } = benchHeader();
  const cell: CrowdCell = {
    ...{ ...(await cellOf(world, seed)), ...now, commit: header.commit },
  };
  keepCell('crowds', CrowdCellSchema, [`${world}/${seed}`, cell], crowdPage);
});

type MadeCell = Omit<CrowdCell, 'commit' | 'date' | 'machine' | 'loadBefore'>;

async function cellOf(world: string, seed: number): Promise<MadeCell> {
  const folder = resolve(options.folder, world, String(seed));
  mkdirSync(folder, { recursive: true });
  const log = join(folder, 'log.csv');
  const { setting, crowdDeviation } = at(
    Object.entries(WORLDS).flatMap(([name, of]) => (name === world ? [of] : [])),
    0,
  );
  if (!existsSync(log))
    await quietQianmo(
      ...['synthesize', ...LOG, '--click-rate', '0.1', '--seed', String(seed), '--out', log],
      ...['--setting', setting, '--crowd-deviation', String(crowdDeviation)],
    );
  const crowds = await reportOf(folder, seed, { kind: 'posterior', crowd: 'crowd' });
  const category = await reportOf(folder, seed, { kind: 'posterior' });
  const slice = at(crowds.slices, 0);
  const { difference = null, serves = 'none' } = crowds.selection.crowds ?? {};
  return {
    ...{ world, seed, testAdgroupCount: slice.adgroupCount, testRowCount: slice.queryRowCount },
    losses: {
      ...Object.fromEntries(CROWD_ARMS.map((arm) => [arm, lossOf(slice, arm)])),
      category: lossOf(at(category.slices, 0), 'meta-adapted'),
      oracle: lossOf(slice, 'oracle'),
    },
    validation: difference,
    areCrowdsServed: serves === 'crowds',
  };
}

async function reportOf(folder: string, seed: number, method: object): Promise<EvaluationReport> {
  const output = join(folder, 'crowd' in method ? 'crowds' : 'category');
  const reportPath = join(output, REPORT_FILE);
  if (!existsSync(reportPath)) {
    mkdirSync(output, { recursive: true });
    const config = join(output, 'run.yaml');
    writeFileSync(
      config,
      stringify({
        ...{ run: 'crowds', seed, output, method, ...RUN },
        data: {
          ...{ logs: join(folder, 'log.csv'), store: join(folder, 'store'), features: FEATURES },
          ...{ task: 'adgroup', label: { column: 'click' }, time: 'time' },
          rowSplit: { by: 'time', supportShare: 0.5, supportRowsMax: 300, queryRowsMax: 300 },
          taskSplit: { by: 'hash', validationShare: 0.15, testShare: 0.3 },
        },
        evaluation: {
          arms: ['constant', ...CROWD_ARMS],
          ...{ innerRates: [0.1], innerSteps: [3], oracleColumn: 'p_true', bootstrapSamples: 100 },
        },
      }),
    );
    await quietQianmo('prepare', config);
    await quietQianmo('train', config, '--processes', '1', '--fresh');
    await quietQianmo('evaluate', config, '--processes', '1', '--fresh');
  }
  return parseReport(readFileSync(reportPath, 'utf8'), reportPath);
}
