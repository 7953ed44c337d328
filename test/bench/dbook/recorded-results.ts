/**
 * The contents of `infra/results/dbook.json`, the record of the bench on dbook, and the page made
 * from it.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import type { BenchHeader } from '../bench-header.js';
import { tableOf, type DbookResults } from './results-table.js';

const RECORD = new URL('infra/results/dbook.json', packageRoot);
const PAGE = new URL('infra/results/dbook.md', packageRoot);

const ScoresSchema = z.strictObject({
  ...{ mae: z.number(), rmse: z.number(), ndcg: z.number(), auc: z.number() },
});
const DifferenceSchema = z.strictObject({ value: z.number(), low: z.number(), high: z.number() });

const byScenario = <Value extends z.ZodType>(
  value: Value,
): z.ZodObject<Record<'warm-up' | 'cold users' | 'cold items' | 'both cold', Value>> =>
  z.strictObject({
    ...{ 'warm-up': value, 'cold users': value },
    ...{ 'cold items': value, 'both cold': value },
  });

const CurveSchema = z.array(z.strictObject({ outerStep: z.int(), scores: ScoresSchema }));
const RecordSchema = z.strictObject({
  ...{ commit: z.string(), date: z.string(), machine: z.string(), loadBefore: z.number() },
  settings: z.unknown(),
  seeds: z.array(z.int()),
  arms: z.array(
    z.strictObject({
      name: z.string(),
      scores: byScenario(ScoresSchema),
      chosen: z.nullable(z.strictObject({ outerSteps: z.int(), curve: CurveSchema })),
    }),
  ),
  differences: z.array(
    z.strictObject({
      ...{ first: z.string(), second: z.string() },
      ...{ mae: byScenario(DifferenceSchema), rmse: byScenario(DifferenceSchema) },
    }),
  ),
  claims: z.array(z.tuple([z.string(), z.string()])),
});

export function recordResults(header: BenchHeader, settings: unknown, results: DbookResults): void {
  const record = { ...header, settings, ...results };
  writeFileSync(RECORD, `${JSON.stringify(record, null, 1)}\n`);
}

/** Writes the page of the recorded results. */
export function writeRecordedPage(): string {
  const record = RecordSchema.parse(JSON.parse(readFileSync(RECORD, 'utf8')));
  const page = tableOf(record, record);
  writeFileSync(PAGE, page);
  return page;
}
