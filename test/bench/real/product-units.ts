/** The product's side of a cell: runs of the command, each of which searches, trains and evaluates. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify, parse } from 'yaml';
import { z } from 'zod';
import { type Unit, predictionsPath, type UnitArm } from './arm-units.js';
import { type CellFiles, type RealCell, predictionsCsv } from './cell-files.js';
import {
  parseReport,
  type EvaluationReport,
} from '../../../coordinator/scoring/evaluation-report.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { GLOBAL_ARMS, META_ARMS, type ArmName } from '../../../shared/config/arms.js';
import { qianmoIn } from '../qianmo-command.js';
import { rowsInDuckDb } from '../../fixtures/duckdb-for-test.js';

/** Its progress is not shown, because several cells may be made at once. */
export async function quietQianmo(...words: string[]): Promise<void> {
  await qianmoIn({ checkout: packageRoot.pathname, folder: process.cwd() }, ...words);
}

const ChosenConfigSchema = z.looseObject({
  method: z.looseObject({ kind: z.string() }),
  model: z.looseObject({ kind: z.string() }),
  output: z.string(),
  evaluation: z.looseObject({}).default({}),
});

interface TrainedModel {
  /** The path of its config. */
  readonly config: string;
  readonly tried: number;
}

/** Only arms of the model that was trained, so that evaluating trains no other. */
async function evaluatedArms(
  name: string,
  { config: configPath, tried }: TrainedModel,
  files: CellFiles,
): Promise<UnitArm[]> {
  const config = ChosenConfigSchema.parse(parse(readFileSync(configPath, 'utf8')));
  const arms = config.method.kind === 'global' ? GLOBAL_ARMS : META_ARMS;
  const path = join(files.folder, `evaluate-${name}.yaml`);
  writeFileSync(path, stringify({ ...config, evaluation: { ...config.evaluation, arms } }));
  const predictions = join(files.folder, `evaluate-${name}.parquet`);
  await quietQianmo('evaluate', path, '--processes', '1', '--fresh', '--predictions', predictions);
  const reportPath = join(config.output, 'evaluation.json');
  const report = parseReport(readFileSync(reportPath, 'utf8'), reportPath);
  const { model, method } = config;
  return armsOf(name, report, predictions, { files, settings: { model, method, tried } });
}

async function armsOf(
  unit: string,
  report: EvaluationReport,
  predictions: string,
  { files, settings }: { readonly files: CellFiles; readonly settings: UnitArm['settings'] },
): Promise<UnitArm[]> {
  const found: UnitArm[] = [];
  for (const arm of report.arms) {
    const name = `qianmo-${unit}-${arm}`;
    const { rows, probabilities } = await columnOf(predictions, arm);
    writeFileSync(predictionsPath(files, name), predictionsCsv(rows, probabilities));
    const metrics = report.slices[0]?.arms.find((result) => result.arm === arm)?.metrics;
    const validated = report.validation?.arms.find((result) => result.arm === arm);
    const cell = report.selection.chosen.find((selection) => selection.arm === arm)?.cell;
    found.push({
      name,
      // Without its bias: settings of the arm are judged on other validation tasks than they were chosen on.
      validationLogloss: validated?.heldOutLogloss ?? null,
      settings: { ...settings, ...(cell === undefined ? {} : { cell }) },
      claimed: metrics === undefined ? null : { logloss: metrics.logloss, auc: metrics.auc },
    });
  }
  return found;
}

async function columnOf(
  parquet: string,
  arm: ArmName,
): Promise<{ rows: number[]; probabilities: number[] }> {
  const column = arm.replaceAll('-', '_');
  const found = await rowsInDuckDb(
    `SELECT CAST("row" AS DOUBLE), "${column}" FROM read_parquet('${parquet}') ORDER BY "row"`,
  );
  return {
    rows: found.map(([row]) => Number(row)),
    probabilities: found.map(([, probability]) => Number(probability)),
  };
}

interface ProductSide {
  readonly name: string;
  /** The store that its data section asks for, within the folder of the cell. */
  readonly store: string;
  /** False if it trains the one model that its config names. */
  readonly searches: boolean;
  /** The fields of the config besides the data. */
  readonly sections: (trialsMax: number) => object;
}

/** `auto` as a person would run it, and a plain DeepFM for all tasks on the same fields as the peer's, without encodings across tasks. */
export const PRODUCT_SIDES: readonly ProductSide[] = [
  {
    name: 'plain',
    store: 'store-plain',
    searches: false,
    sections: () => ({
      model: { kind: 'deepfm', embeddingWidth: 16, hiddenWidths: [64, 32], personal: ['bias'] },
      method: { kind: 'global' },
      training: PLAIN_TRAINING,
    }),
  },
  {
    name: 'auto',
    store: 'store',
    searches: true,
    sections: (trialsMax) => ({ auto: { trialsMax } }),
  },
];

/** One setting for all sets, where the peer's DeepFM searches. */
const PLAIN_TRAINING = {
  ...{ outerSteps: 2000, rowsPerOuterStep: 768, taskWeight: 'examples' },
  optimizer: { kind: 'adam', rate: 0.003 },
  schedule: { warmupOuterSteps: 20, decay: 'cosine', finalShare: 0.05 },
  ...{ weightDecay: 0.1, dropout: 0.3, inputDropout: 0.3, idDropout: 0.1 },
  ...{ gradientNormMax: 5, biasStart: 'click-rate' },
  earlyStopping: { everyOuterSteps: 25, patience: 20, tasksMax: 500 },
};

/** The data section of a config for a cell. */
function dataOf(
  { features }: Pick<RealCell['set'], 'features'>,
  files: CellFiles,
  store: string,
): object {
  return {
    ...{ logs: files.log, store, task: 'task', features, splitFile: files.split },
    label: { clicks: 'clicks', impressions: 'impressions' },
    rowSplit: { by: 'hash', supportRowsMin: 1, queryRowsMin: 1 },
    trunkRows: 'small-tasks',
  };
}

export function productUnit(
  { name, store, searches, sections }: ProductSide,
  { set, seed }: RealCell,
  files: CellFiles,
  trialsMax: number,
): Unit {
  const output = join(files.folder, `run-${name}`);
  const text = stringify({
    ...{ run: `real-${name}`, seed },
    data: dataOf(set, files, join(files.folder, store)),
    ...sections(trialsMax),
    output,
  });
  return {
    ...{ name: `qianmo-${name}`, side: 'product', folder: files.folder, wanted: text },
    run: async () => {
      mkdirSync(output, { recursive: true });
      const path = join(output, 'run.yaml');
      writeFileSync(path, text);
      await quietQianmo('prepare', path);
      await quietQianmo(searches ? 'auto' : 'train', path, '--processes', '1', '--fresh');
      const search = join(output, 'auto');
      const model = searches
        ? { config: join(search, 'best.yaml'), tried: triedIn(join(search, 'auto.json')) }
        : { config: path, tried: 1 };
      return evaluatedArms(name, model, files);
    },
  };
}

const SearchRecordSchema = z.looseObject({
  trials: z.array(
    z.looseObject({ scores: z.array(z.unknown()), averageOf: z.array(z.string()).optional() }),
  ),
});

function triedIn(record: string): number {
  const { trials } = SearchRecordSchema.parse(JSON.parse(readFileSync(record, 'utf8')));
  return trials.filter(({ scores, averageOf }) => scores.length > 0 && averageOf === undefined)
    .length;
}
