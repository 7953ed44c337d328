/**
 * Synthetic worlds with a few long adgroups, which are test tasks, and many thin ones, which train: the log with its
 * division, and what the generator itself can predict of the test rows. The generator knows the trunk and the distribution of
 * what adgroups deviate by. The worlds are those of `synthesize` in its strong setting.
 */

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { CSV_COLUMNS, rowsOfHour } from '../../../coordinator/synthesize/synthesize.js';
import {
  affinityLogit,
  buildWorld,
  HOUR_COUNT,
  hourSlotLogit,
  PROFILE_FIELDS,
  solveIntercept,
  WORLD_PARAMETERS,
  type SyntheticWorld,
} from '../../../coordinator/synthesize/synthetic-world.js';
import { at, float32At, float64At, numberAt, uint8At } from '../../../shared/base/arrays.js';
import { writeWhole } from '../real/cell-files.js';
import { splitCsvOf, type RoledRow } from '../real/row-roles.js';
import { laplacePosterior, predictiveLoss, type LinearRow } from './laplace-posterior.js';

interface TaskSizes {
  readonly tasks: number;
  readonly supportRows: number;
  readonly queryRows: number;
}

/** By split, adgroups of one or several sizes. */
export type WorldSizes = Readonly<Record<'train' | 'validation' | 'test', readonly TaskSizes[]>> & {
  readonly users: number;
};

/** The worlds of the bench: test adgroups are few and long, the others many and thin, so that a run takes minutes. */
export const WORLD_SIZES: WorldSizes = {
  train: [
    { tasks: 1_800, supportRows: 50, queryRows: 50 },
    { tasks: 200, supportRows: 1_000, queryRows: 1_000 },
  ],
  validation: [{ tasks: 150, supportRows: 200, queryRows: 200 }],
  test: [{ tasks: 60, supportRows: 5_000, queryRows: 1_000 }],
  users: 8_000,
};

export interface EvidenceWorld {
  readonly roled: readonly RoledRow[];
  readonly test: readonly TestAdgroup[];
  /** Variances of an adgroup's deviations, one for each feature. */
  readonly priorVariances: readonly number[];
}

interface TestRow {
  readonly isSupport: boolean;
  readonly click: number;
  /** The logit without the adgroup's deviations. */
  readonly trunk: number;
  /** Factors of the adgroup's deviations in the logit. */
  readonly features: readonly number[];
  /** The mean of these over the users of the same profile. */
  readonly ofProfile: readonly number[];
}
type TestAdgroup = TestRow[];

const SPLITS = ['test', 'validation', 'train'] as const;

/** Writes the log and the split file. */
export function writeEvidenceWorld(
  { log, split }: { readonly log: string; readonly split: string },
  { clickRate, seed, sizes }: { clickRate: number; seed: number; sizes: WorldSizes },
): EvidenceWorld {
  const planned = SPLITS.flatMap((split) =>
    sizes[split].flatMap(({ tasks, supportRows, queryRows }) =>
      Array.from({ length: tasks }, () => ({ split, supportRows, rows: supportRows + queryRows })),
    ),
  );
  const options = {
    ...{ clickRate, seed, adgroups: planned.length, users: sizes.users },
    rows: planned.reduce((sum, { rows }) => sum + rows, 0),
  };
  const drawn = buildWorld({ ...options, setting: 'strong' });
  const adgroups = { ...drawn.adgroups, sizes: Uint32Array.from(planned, ({ rows }) => rows) };
  const world = { ...drawn, adgroups };
  // Draws are as above, but adgroups do not deviate.
  const trunk = buildWorld({ ...options, setting: 'homogeneous' });
  const intercept = solveIntercept(world, clickRate);
  const roled: RoledRow[] = [];
  const test = planned.filter(({ split }) => split === 'test').map((): TestAdgroup => []);
  const known = featuresByUser(world);
  const counts = new Uint32Array(planned.length);
  const texts = [`${CSV_COLUMNS.join(',')}\n`];
  for (let hour = 0; hour < HOUR_COUNT; hour += 1) {
    const { text } = rowsOfHour(world, intercept, hour);
    texts.push(text);
    for (const line of text.split('\n').slice(0, -1)) {
      const cells = line.split(',');
      const cell = (name: string): number => Number(cells[CSV_COLUMNS.indexOf(name)]);
      const adgroup = cell('adgroup');
      const plan = at(planned, adgroup);
      const isSupport = numberAt(counts, adgroup) < plan.supportRows;
      counts[adgroup] = numberAt(counts, adgroup) + 1;
      const role = `${plan.split}-${isSupport ? 'support' : 'query'}`;
      roled.push({ row: roled.length, task: String(adgroup), role });
      if (plan.split !== 'test') continue;
      const user = cell('user');
      const shared = intercept + hourSlotLogit(world, hour, cell('slot'));
      at(test, adgroup).push({
        ...{ isSupport, click: cell('click') },
        trunk: affinityLogit(trunk, adgroup, user) + shared,
        ...known(user),
      });
    }
  }
  mkdirSync(dirname(log), { recursive: true });
  writeWhole(log, texts.join(''));
  writeWhole(split, splitCsvOf(roled));
  return { roled, test, priorVariances: priorVariancesOf(world) };
}

type UserFeatures = Pick<TestRow, 'features' | 'ofProfile'>;

/** An own base logit, own tastes on the axes of users' latents, and own loadings of the factors of profiles. */
function featuresByUser(world: SyntheticWorld): (user: number) => UserFeatures {
  const { users, adgroups, profileLevels } = world;
  const { axisCount, factorCount, levelCount } = widthsOf(world);
  const scale = 1 / Math.sqrt(axisCount);
  const found = new Map<number, UserFeatures>();
  const featuresOf = (user: number): UserFeatures => {
    const code = numberAt(users.profileCodes, user) * PROFILE_FIELDS.length;
    const levels = PROFILE_FIELDS.map((_, field) => uint8At(profileLevels, code + field));
    const over = (valueOf: (level: number) => number): number =>
      levels.reduce((sum, level) => sum + valueOf(level), 0);
    const factors = upTo(factorCount).map((factor) =>
      over((level) => float64At(adgroups.responseFactors, factor * levelCount + level)),
    );
    const own = upTo(axisCount).map(
      (axis) => scale * float32At(users.latents, user * axisCount + axis),
    );
    const explained = upTo(axisCount).map(
      (axis) => scale * over((level) => float64At(users.levelLatents, level * axisCount + axis)),
    );
    return { features: [1, ...own, ...factors], ofProfile: [1, ...explained, ...factors] };
  };
  return (user) => {
    const features = found.get(user) ?? featuresOf(user);
    found.set(user, features);
    return features;
  };
}

function widthsOf({ users, adgroups }: SyntheticWorld) {
  const axisCount = users.latents.length / users.count;
  const levelCount = users.levelLatents.length / axisCount;
  return { axisCount, levelCount, factorCount: adgroups.responseFactors.length / levelCount };
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

function priorVariancesOf(world: SyntheticWorld): number[] {
  const { axisCount, factorCount } = widthsOf(world);
  const { ownBase, ownLatent, ownResponse } = WORLD_PARAMETERS.deviations;
  return [
    ownBase ** 2,
    ...upTo(axisCount).map(() => ownLatent ** 2),
    ...upTo(factorCount).map(() => ownResponse ** 2),
  ];
}

/** The generator reads an adgroup as a level, as responses to profiles, or as responses to each user. */
export const CEILINGS = ['bayes-level', 'bayes-profile', 'bayes'] as const;

/** The features of a row that the generator reads. It knows the distribution of the rest. */
const READS = {
  'bayes-level': (_: TestRow, mean: readonly number[]) => mean,
  'bayes-profile': ({ ofProfile }: TestRow) => ofProfile,
  bayes: ({ features }: TestRow) => features,
} as const;

/** The loss per query row of each ceiling, after each number of support rows. */
export function ceilingLosses(
  { test, priorVariances }: EvidenceWorld,
  supportRows: readonly number[],
): Record<(typeof CEILINGS)[number], number[]> {
  const all = test.flat();
  const mean = priorVariances.map(
    (_, place) => all.reduce((sum, { features }) => sum + at(features, place), 0) / all.length,
  );
  const lossesOf = (
    read: (row: TestRow, mean: readonly number[]) => readonly number[],
  ): number[] => {
    const asLinear = (row: TestRow): LinearRow => {
      const features = read(row, mean);
      const otherVariance = priorVariances.reduce(
        (sum, variance, place) =>
          sum + variance * (at(row.features, place) - at(features, place)) ** 2,
        0,
      );
      return { offset: row.trunk, features, otherVariance, click: row.click };
    };
    const tasks = test.map((rows) => ({
      support: rows.filter(({ isSupport }) => isSupport).map(asLinear),
      query: rows.filter(({ isSupport }) => !isSupport).map(asLinear),
    }));
    return supportRows.map((count) => {
      let [sum, rowCount] = [0, 0];
      for (const { support, query } of tasks) {
        const posterior = laplacePosterior(support.slice(0, count), priorVariances);
        for (const row of query) sum += predictiveLoss(row, posterior);
        rowCount += query.length;
      }
      return sum / rowCount;
    });
  };
  return {
    'bayes-level': lossesOf(READS['bayes-level']),
    'bayes-profile': lossesOf(READS['bayes-profile']),
    bayes: lossesOf(READS.bayes),
  };
}
