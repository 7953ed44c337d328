/**
 * The notes of a comparison when runs were evaluated in different ways, and the settings it then
 * uses.
 */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { comparisonDocument } from '../../../coordinator/reports/comparison-document.js';
import { describe, expect, it } from 'vitest';
import { compareRuns } from '../../../coordinator/comparison/compare-runs.js';
import { comparisonNotes } from '../../../coordinator/reports/comparison-document.js';
import type { EvaluatedRun } from '../../../coordinator/comparison/evaluated-run.js';
import { evaluatedRun } from '../../fixtures/evaluation/evaluated-runs.js';
import { formulaConfig } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const store = tinyTaskStore({ taskCount: 100, counts: true });

describe('runs that adapt to other support sets', () => {
  it('are compared in the size buckets of the first run, and a note says how many adgroups differ', async () => {
    const near = await evaluatedRun('near', { store });
    const other = structuredClone(await evaluatedRun('other', { store }));
    const counts = other.logits.supportRowCounts as number[];
    for (const position of [0, 7, 8]) counts[position] = (counts[position] ?? 0) + 90;
    const found = compareRuns([
      { evaluated: near, arm: null },
      { evaluated: other, arm: null },
    ]);
    expect(found.slices.map((slice) => slice.adgroupCount)).toEqual(
      near.report.slices.map((slice) => slice.adgroupCount),
    );
    const note = `3 of ${near.logits.taskKeys.length} adgroups have other support rows in other:meta-adapted than in near:meta-adapted, whose numbers of rows decide the size buckets.`;
    expect(comparisonNotes(found)).toEqual([note]);
    expect(asPage(comparisonDocument(found))).toContain(note);
    const sameCounts = structuredClone(near);
    const hashes = sameCounts.logits.supportHashes as number[];
    hashes[4] = (hashes[4] ?? 0) + 1;
    const ofOtherRows = compareRuns([
      { evaluated: near, arm: null },
      { evaluated: sameCounts, arm: 'global' },
    ]);
    expect(comparisonNotes(ofOtherRows)).toEqual([
      expect.stringMatching(/^1 of \d+ adgroups have other support rows in near:global/),
    ]);
    const alike = compareRuns([
      { evaluated: near, arm: null },
      { evaluated: near, arm: 'global' },
    ]);
    expect(comparisonNotes(alike)).toEqual([]);
  });
});

describe('nDCG of a comparison', () => {
  const values = tinyTaskStore({ taskCount: 80, losses: ['squared'] });
  const rankedAt = (run: string, ndcgAt: number): Promise<EvaluatedRun> =>
    evaluatedRun(run, { store: values, config: formulaConfig({ run, evaluation: { ndcgAt } }) });

  it('equals that of the evaluations', async () => {
    const evaluated = [await rankedAt('a', 2), await rankedAt('b', 2)];
    const found = compareRuns(evaluated.map((run) => ({ evaluated: run, arm: 'global' })));
    for (const [run, { report: own }] of evaluated.entries()) {
      const metrics = own.slices[0]?.arms.find(({ arm }) => arm === 'global')?.metrics;
      expect(metrics?.values?.ndcgAt).toBe(2);
      expect(found.slices[0]?.runs[run]?.metrics.values).toEqual(metrics?.values);
    }
    expect(comparisonNotes(found)).toEqual([]);
    expect(asText(comparisonDocument(found))).toContain('nDCG@2');
  });

  it('uses the nDCG cutoff of the first run for every run, and says so', async () => {
    const chosen = [await rankedAt('a', 2), await rankedAt('b', 7)].map((evaluated) => ({
      evaluated,
      arm: null,
    }));
    const found = compareRuns(chosen);
    expect(found.slices[0]?.runs.map(({ metrics }) => metrics.values?.ndcgAt)).toEqual([2, 2]);
    const note = 'b:meta-adapted was evaluated with nDCG@7; here it has nDCG@2, as a:meta-adapted.';
    expect(comparisonNotes(found)).toEqual([note]);
    expect(asPage(comparisonDocument(found))).toContain(note);
  });
});
