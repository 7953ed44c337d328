/**
 * The arms of a cell: models of the product as its search trains them, each evaluated after the first 0, 1, 5, ... support
 * rows of every test adgroup. No arm reads support rows but by adapting.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import {
  parseReport,
  REPORT_FILE,
  type EvaluationReport,
} from '../../../coordinator/scoring/evaluation-report.js';
import {
  candidatesOf,
  commonTraining,
  type DataFacts,
} from '../../../coordinator/sweep/search-space.js';
import { at } from '../../../shared/base/arrays.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { SEARCH_TRIALS_MAX, withAutoSection } from '../../../shared/config/auto-config.js';
import { keptOrRun } from '../real/arm-units.js';
import { quietQianmo } from '../real/product-units.js';
import type { RoledRow } from '../real/row-roles.js';

const SUPPORT_ROWS = [0, 1, 5, 10, 20, 50, 100, 200, 1_000, 5_000];

export function pointsUpTo(supportRows: number): number[] {
  return SUPPORT_ROWS.filter((count) => count <= supportRows);
}

/** The settings of methods with gradient steps, chosen on validation adgroups. */
const GRID = { innerRates: [0.03, 0.1, 0.3, 1], innerSteps: [1, 3, 10] };

interface TrainedRun {
  readonly model: object;
  readonly method: object;
  readonly training: object;
  readonly evaluation: object;
  /** The arms of its report, as the page calls them. */
  readonly arms: Partial<Record<ArmName, string>>;
}

/** One model each. The global one is adapted in two ways, by a fitted shift and by gradient steps. */
function runsOf(facts: DataFacts): Record<string, TrainedRun> {
  const common = commonTraining(facts);
  const ofMethod = (kind: string) => {
    const found = candidatesOf(facts, SEARCH_TRIALS_MAX).filter(
      ({ method }) => method['kind'] === kind,
    );
    const { model, method, training, length, evaluation } = at(found, 0);
    const { supportInputs: _, ...own } = model;
    return { model: own, method, training: { ...common, ...length, ...training }, evaluation };
  };
  const [global, posterior] = [ofMethod('global'), ofMethod('posterior')];
  const personal = ['bias', 'output'];
  return {
    global: {
      ...global,
      model: { ...global.model, personal },
      evaluation: GRID,
      arms: { global: 'global', 'global-shift': 'shift', finetuned: 'finetuned' },
    },
    level: {
      ...posterior,
      model: { ...posterior.model, personal: ['bias'] },
      arms: { 'meta-adapted': 'level' },
    },
    gradient: {
      ...posterior,
      method: { kind: 'fomaml', innerSteps: 3, innerRate: 0.1 },
      evaluation: GRID,
      arms: { 'meta-adapted': 'gradient' },
    },
    posterior: { ...posterior, arms: { 'meta-adapted': 'posterior' } },
  };
}

export interface CurveFiles {
  readonly folder: string;
  /** The data section of a config, without its store. */
  readonly data: object;
  readonly seed: number;
  readonly supportRows: number;
  readonly roled: readonly RoledRow[];
  /** The column of true click probabilities. */
  readonly oracleColumn?: string;
}

export interface ArmCurves {
  readonly seconds: Record<string, number>;
  /** By arm, the loss after each number of support rows. */
  readonly losses: Record<string, readonly number[]>;
  readonly report: EvaluationReport;
}

export async function armCurves(files: CurveFiles): Promise<ArmCurves> {
  const { folder, seed, supportRows, oracleColumn } = files;
  const shots = pointsUpTo(supportRows);
  const seconds: Record<string, number> = {};
  const losses: Record<string, readonly number[]> = {};
  let last: EvaluationReport | null = null;
  for (const [name, { arms, evaluation, ...sections }] of Object.entries(runsOf(factsOf(files)))) {
    const output = join(folder, name);
    const text = stringify({
      ...{ run: `evidence-${name}`, seed, output, ...sections },
      data: { ...withEncodings(files.data), store: join(folder, 'store') },
      evaluation: {
        ...{ ...evaluation, arms: Object.keys(arms), shots, bootstrapSamples: 100 },
        ...(oracleColumn === undefined ? {} : { oracleColumn }),
      },
    });
    mkdirSync(output, { recursive: true });
    process.stderr.write(`${folder}: ${name}\n`);
    const path = join(output, 'run.yaml');
    const keptSeconds = async (name: string, run: () => Promise<void>): Promise<number> => {
      const unit = { name, side: 'product', folder: output, wanted: text } as const;
      return (await keptOrRun({ ...unit, run: () => run().then(() => []) })).seconds;
    };
    const training = await keptSeconds('train', async () => {
      writeFileSync(path, text);
      await quietQianmo('prepare', path);
      await quietQianmo('train', path, '--processes', '1', '--fresh');
    });
    const evaluating = await keptSeconds('evaluate', () =>
      quietQianmo('evaluate', path, '--processes', '1', '--fresh'),
    );
    seconds[name] = training + evaluating;
    const reportPath = join(output, REPORT_FILE);
    last = parseReport(readFileSync(reportPath, 'utf8'), reportPath);
    for (const [arm, shown] of Object.entries(arms))
      losses[shown] = (last.shots ?? []).map((point) => lossOf(point.slice, arm));
  }
  if (last === null) throw new Error('there is no arm');
  return { seconds, losses, report: last };
}

export function lossOf({ arms }: EvaluationReport['slices'][number], arm: string): number {
  return at(
    arms.filter((result) => result.arm === arm),
    0,
  ).metrics.logloss;
}

/** The data section as the search completes it. */
function withEncodings(data: object): object {
  return CompletedSchema.parse(withAutoSection({ auto: {}, data })).data;
}

const CompletedSchema = z.looseObject({ data: z.looseObject({}) });

function factsOf({ roled }: CurveFiles): DataFacts {
  const rows = roled.filter(({ role }) => role.startsWith('train'));
  const trainTaskCount = new Set(
    rows.filter(({ role }) => role !== 'train').map(({ task }) => task),
  ).size;
  const perTask = (wanted: string): number =>
    rows.filter(({ role }) => role === wanted).length / trainTaskCount;
  return {
    ...{ trainTaskCount, supportRowsPerTask: perTask('train-support') },
    queryRowsPerTask: perTask('train-query'),
    ...{ trainRowCount: rows.length, impressions: rows.length },
    ...{ clickRate: null, segment: null },
  };
}
