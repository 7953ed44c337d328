/**
 * A run of three segments (newcomers click, regulars order, buyers spend) from its log to its
 * reports, in process, by the real command.
 */

import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  parseReport,
  type EvaluationReport,
} from '../../../coordinator/scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { segmentLog, segmentRun } from '../../fixtures/commands/segment-log.js';
import { openedOnce } from '../../fixtures/opened.js';
import { rowsInDuckDb } from '../../fixtures/duckdb-for-test.js';

const room = openedOnce(commandRoom);
let reports: EvaluationReport[];

beforeAll(async () => {
  await room.write('log.csv', segmentLog());
  // JSON is valid YAML.
  await room.write('run.yaml', JSON.stringify(segmentRun()));
  await room.done(['prepare', 'run.yaml']);
  await room.done(['train', 'run.yaml']);
  const printed = ['--format', 'json', '--predictions', 'p.parquet'];
  const output = await room.done(['evaluate', 'run.yaml', ...printed]);
  const { segments } = JSON.parse(output) as { segments: unknown[] };
  reports = segments.map((report) => parseReport(JSON.stringify(report), 'the output'));
});

function metricsOf(report: EvaluationReport, arm: ArmName) {
  const found = report.slices[0]?.arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`no ${arm}`);
  return found.metrics;
}

describe('segments, from log to reports', () => {
  it('have one report each, with the loss of their label', () => {
    expect(reports.map(({ label }) => [label?.segment, label?.loss])).toEqual([
      ['newcomer', 'binary'],
      ['regular', 'binary'],
      ['buyer', 'squared'],
    ]);
    for (const report of reports) {
      const isOfValues = report.label?.loss === 'squared';
      for (const { metrics } of report.slices[0]!.arms) {
        expect(metrics.values === undefined).toBe(!isOfValues);
        expect(metrics.auc === null).toBe(isOfValues);
      }
    }
  });

  it('divide the tasks of the store among them', async () => {
    const manifest = JSON.parse(await readFile(room.path('store/manifest.json'), 'utf8')) as {
      taskCountBySplit: { train: number; test: number };
    };
    const total = (pick: (report: EvaluationReport) => number): number =>
      reports.reduce((sum, report) => sum + pick(report), 0);
    expect(total(({ counts }) => counts.trainTasks)).toBe(manifest.taskCountBySplit.train);
    expect(total(({ counts }) => counts.testTasks)).toBe(manifest.taskCountBySplit.test);
  });

  it('are all learned by the one trunk, and adapted to', () => {
    for (const report of reports) {
      const [constant, global, adapted] = (['constant', 'global', 'meta-adapted'] as const).map(
        (arm) => metricsOf(report, arm).logloss,
      );
      expect(global, report.label?.segment ?? '').toBeLessThan(constant!);
      expect(adapted, report.label?.segment ?? '').toBeLessThan(global!);
    }
    // Amounts are 60 + 25 appeal + 12 noise, so the predictable part leaves a deviation of 12.
    const values = metricsOf(reports[2]!, 'global-shift').values!;
    expect(values.rmse).toBeGreaterThan(10);
    expect(values.rmse).toBeLessThan(16);
    expect(values.rSquared).toBeGreaterThan(0.7);
  });

  it('write predictions in the unit of the label, from which the report can be verified', async () => {
    const read = async (sql: string): Promise<number[]> =>
      ((await rowsInDuckDb(sql))[0] ?? []).map(Number);
    const [rmse, mae] = await read(
      `SELECT sqrt(avg((meta_adapted - value) ** 2)), avg(abs(meta_adapted - value)) FROM '${room.path('p-buyer.parquet')}'`,
    );
    const { values } = metricsOf(reports[2]!, 'meta-adapted');
    expect(rmse).toBeCloseTo(values!.rmse, 4);
    expect(mae).toBeCloseTo(values!.mae, 4);
    const [logloss] = await read(
      `SELECT -sum(clicks * ln(meta_adapted) + (impressions - clicks) * ln(1 - meta_adapted)) / sum(impressions)
        FROM '${room.path('p-regular.parquet')}'`,
    );
    expect(logloss).toBeCloseTo(metricsOf(reports[1]!, 'meta-adapted').logloss, 5);
  });

  it('have separate pages, in the terms of their label', async () => {
    const page = await readFile(room.path('run/report-buyer.html'), 'utf8');
    expect(page).toContain('segment buyer');
    expect(page).toContain('nDCG@5');
    expect(page).not.toMatch(/logloss|click rate|nats/i);
    expect(await readFile(room.path('run/report-newcomer.html'), 'utf8')).toContain('logloss');
  });
});
