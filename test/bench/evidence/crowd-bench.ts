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
import { z } from 'zod';
import {
  type EvaluationReport,
  type Interval,
  parseReport,
  REPORT_FILE,
} from '../../../coordinator/scoring/evaluation-report.js';
import { at } from '../../../shared/base/arrays.js';
import { benchHeader, folderOfCommit, markdownTable } from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { keepCell } from '../cell-record.js';
import { inLanes } from '../in-lanes.js';
import { anySeed, listOf, oneOf, text, wholeNumber } from '../option-values.js';
import { quietQianmo } from '../real/product-units.js';
import { intervalOver } from '../seed-intervals.js';
import { lossOf } from './evidence-arms.js';

/** How far adgroups deviate from their attributes, and crowds from nothing. */
const WORLDS: Readonly<
  Record<string, { readonly setting: string; readonly crowdDeviation: number }>
> = {
  both: { setting: 'strong', crowdDeviation: 0.5 },
  adgroups: { setting: 'strong', crowdDeviation: 0 },
  crowds: { setting: 'homogeneous', crowdDeviation: 0.5 },
};

const CROWD_ARMS = [
  ...['meta-unadapted', 'meta-adapted', 'crowd-unadapted', 'crowd-adapted', 'meta-chosen'],
];

const CrowdCellSchema = z.strictObject({
  world: z.string(),
  seed: z.int(),
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  loadBefore: z.number(),
  testAdgroupCount: z.int(),
  testRowCount: z.int(),
  /** By arm. `category` adapts adgroups of a model that reads the crowd as a category. */
  losses: z.record(z.string(), z.number()),
  /** The loss on validation adgroups with blocks of crowds minus that without. */
  validation: z.strictObject({ value: z.number(), standardError: z.number() }).nullable(),
  areCrowdsServed: z.boolean(),
});
type CrowdCell = z.infer<typeof CrowdCellSchema>;

interface CrowdRecord {
  readonly cells: Readonly<Record<string, CrowdCell>>;
}

const COLUMNS = [
  ['meta-unadapted', 'neither'],
  ['meta-adapted', 'adgroups'],
  ['crowd-unadapted', 'crowds'],
  ['crowd-adapted', 'both'],
  ['meta-chosen', 'served'],
  ['category', 'adgroups, crowd as category'],
  ['oracle', 'truth'],
] as const;

const RIVALS = [
  ['meta-adapted', 'blocks of adgroups alone'],
  ['crowd-unadapted', 'blocks of crowds alone'],
  ['category', 'blocks of adgroups and the crowd as a category'],
] as const;

function crowdPage(record: CrowdRecord): string {
  const cells = Object.values(record.cells);
  return [
    '# Crowds beside adgroups',
    '',
    'Synthetic worlds of 1,500 adgroups, 20,000 users and 300,000 rows at a click rate of 10 %. Each user is in one of 400 crowds, which',
    'has a level and tastes of its own. In `both`, adgroups and crowds deviate; in `adgroups` crowds have no effect, and in',
    '`crowds` adgroups follow from their attributes. A posterior DeepFM is trained by adgroup and does not read the crowd; blocks of crowds',
    'are fitted afterwards on the training adgroups. Test adgroups are new, adapt on their earlier rows, and are judged on the later ones.',
    '`served` is the arm that validation chooses: with blocks of crowds or without.',
    '',
    'Figures are logloss per impression. Intervals are of 95 % over seeds, which draw worlds anew.',
    '',
    ...Object.keys(WORLDS).flatMap((world) => {
      const ofWorld = cells.filter((cell) => cell.world === world);
      return ofWorld.length === 0 ? [] : worldLines(world, ofWorld);
    }),
    '`crowds.json` has the commit and the machine of every seed.',
    '',
  ].join('\n');
}

function worldLines(world: string, cells: readonly CrowdCell[]): string[] {
  const served = cells.filter(({ areCrowdsServed }) => areCrowdsServed).length;
  return [
    `## ${world}`,
    '',
    ...markdownTable(
      ['seed', ...COLUMNS.map(([, title]) => title)],
      cells.map(({ seed, losses }) => [
        String(seed),
        ...COLUMNS.map(([arm]) => (losses[arm] ?? NaN).toFixed(4)),
      ]),
    ),
    '',
    `Validation serves crowds in ${served} of ${cells.length} seeds.`,
    ...(['crowd-adapted', 'meta-chosen'] as const).map((arm) => differencesOf(arm, cells)),
    '',
  ];
}

function differencesOf(arm: 'crowd-adapted' | 'meta-chosen', cells: readonly CrowdCell[]): string {
  const name = arm === 'crowd-adapted' ? 'Both levels' : 'What is served';
  const parts = RIVALS.map(([rival, title]) => {
    const differences = cells.map(({ losses }) => (losses[arm] ?? NaN) - (losses[rival] ?? NaN));
    return `${shown(intervalOver(differences))} from ${title}`;
  });
  return `${name}: ${parts.join('; ')}.`;
}

function shown(interval: Interval | null): string {
  if (interval === null) return 'no interval';
  const signed = (value: number): string => `${value < 0 ? '-' : '+'}${Math.abs(value).toFixed(4)}`;
  return `${signed(interval.value)} [${signed(interval.low)}, ${signed(interval.high)}]`;
}

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
