/** The arms of a trained model, as `qianmo evaluate` predicts with them. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { parseReport } from '../../../coordinator/scoring/report-json.js';
import type { EvaluationReport } from '../../../coordinator/scoring/evaluation-report.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { GLOBAL_ARMS, META_ARMS, type ArmName } from '../../../shared/config/arms.js';
import { qianmoIn } from '../qianmo-command.js';
import { predictionsPath, type UnitArm } from './arm-units.js';
import { predictionsCsv, type CellFiles } from './cell-files.js';

/** Its progress is not shown, because several cells may be made at once. */
export async function qianmo(...words: string[]): Promise<void> {
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
export async function evaluatedArms(
  name: string,
  { config: configPath, tried }: TrainedModel,
  files: CellFiles,
): Promise<UnitArm[]> {
  const config = ChosenConfigSchema.parse(parse(readFileSync(configPath, 'utf8')));
  const arms = config.method.kind === 'global' ? GLOBAL_ARMS : META_ARMS;
  const path = join(files.folder, `evaluate-${name}.yaml`);
  writeFileSync(path, stringify({ ...config, evaluation: { ...config.evaluation, arms } }));
  const predictions = join(files.folder, `evaluate-${name}.parquet`);
  await qianmo('evaluate', path, '--processes', '1', '--fresh', '--predictions', predictions);
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
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    const column = arm.replaceAll('-', '_');
    const reader = await connection.runAndReadAll(
      `SELECT CAST("row" AS DOUBLE), "${column}" FROM read_parquet('${parquet}') ORDER BY "row"`,
    );
    const [rows = [], probabilities = []] = reader.getColumns();
    return { rows: rows.map(Number), probabilities: probabilities.map(Number) };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
