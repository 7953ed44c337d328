/**
 * The table lines up, the sentences claim no more than the intervals, and the page is
 * self-contained.
 */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { evaluationDocument } from '../../../coordinator/reports/evaluation-document.js';
import { beforeAll, describe, expect, it } from 'vitest';
import type { EvaluationReport, Interval } from '../../../coordinator/scoring/evaluation-report.js';
import { evaluateFormula } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

let report: EvaluationReport;
beforeAll(async () => {
  report = await evaluateFormula({ store: tinyTaskStore({ taskCount: 100 }) });
});

/** The report with another difference of meta-adapted from global-shift. */
function withDifference(perImpression: Interval, perAdgroup = perImpression): EvaluationReport {
  return {
    ...report,
    slices: report.slices.map((slice) => ({
      ...slice,
      arms: slice.arms.map((arm) => ({
        ...arm,
        differences: arm.differences.map((difference) =>
          arm.arm === 'meta-adapted' && difference.reference === 'global-shift'
            ? { ...difference, perImpression, perAdgroup }
            : difference,
        ),
      })),
    })),
  };
}

/** The conclusions in one line. */
function sentencesOf(of: EvaluationReport): string {
  return asText(evaluationDocument(of), 10_000);
}

describe('the table', () => {
  it('aligns the decimal points of each column', () => {
    const lines = asText(evaluationDocument(report), 120).split('\n');
    const start = lines.findIndex((line) => line.startsWith('arm '));
    const rows = lines.slice(start + 2, start + 2 + report.arms.length);
    expect(rows.map((row) => row.split(' ')[0])).toEqual(report.arms);
    const points = rows.map((row) => [...row.matchAll(/\./g)].map((match) => match.index).join());
    expect(points[0]?.split(',')).toHaveLength(7);
    expect(new Set(points).size).toBe(1);
  });

  it('marks the best of each column, including every arm of a tie', () => {
    const text = asText(evaluationDocument(report), 120);
    const [all] = report.slices;
    const best = Math.min(...(all?.arms.map((arm) => arm.metrics.logloss) ?? []));
    expect(text).toContain(`${best.toFixed(4)}*`);
  });

  it('fits a terminal of 80 columns, except for long user-given names', () => {
    const lines = asText(evaluationDocument(report), 80).split('\n');
    const tables = lines.filter((line) => /^(arm|constant|global|finetuned|meta)/.test(line));
    for (const line of tables) expect(line.length).toBeLessThanOrEqual(80);
  });
});

describe('verdicts', () => {
  const interval = (value: number, low: number, high: number): Interval => ({ value, low, high });

  it('require the whole interval on one side of 0', () => {
    const verdictOf = (low: number, high: number): string | undefined =>
      /meta-adapted is (.*?) than global-shift/.exec(
        sentencesOf(withDifference(interval((low + high) / 2, low, high))),
      )?.[1];
    expect([verdictOf(-0.2, -0.01), verdictOf(-0.2, 0), verdictOf(0.05, 0.2)]).toEqual([
      ...['better', 'not better', 'worse'],
    ]);
  });

  it('say so when an arm does not win', () => {
    const sentences = sentencesOf(withDifference(interval(-0.0003, -0.001, 0.0004)));
    expect(sentences).toContain(
      'meta-adapted is not better than global-shift: difference in logloss ' +
        '-0.0003 [-0.0010, +0.0004] per impression (the interval holds 0); ' +
        'per adgroup -0.0003 [-0.0010, +0.0004].',
    );
    const worse = sentencesOf(withDifference(interval(0.02, 0.01, 0.03)));
    expect(worse).toContain('meta-adapted is worse than global-shift');
  });

  it('on draws that are all alike, as those of a single adgroup, are undecided', () => {
    expect(sentencesOf(withDifference(interval(-0.1, -0.1, -0.1)))).toContain(
      'meta-adapted is not better than global-shift: difference in logloss ' +
        '-0.1000 [-0.1000, -0.1000] per impression (the interval has no width); ' +
        'per adgroup -0.1000 [-0.1000, -0.1000].',
    );
  });

  it('say when adgroups and impressions disagree', () => {
    const mixed = withDifference(interval(-0.02, -0.03, -0.01), interval(0.02, 0.01, 0.03));
    expect(sentencesOf(mixed)).toContain(
      'meta-adapted is better than global-shift: difference in logloss ' +
        '-0.0200 [-0.0300, -0.0100] per impression; per adgroup it is worse: +0.0200',
    );
  });
});

describe('the page', () => {
  it('references nothing external and runs no script', () => {
    const html = asPage(evaluationDocument(report));
    const tags = (html.match(/<[^>]*>/g) ?? []).join('\n');
    expect(/\b(?:src|href|action|data)\s*=/i.exec(tags)).toBeNull();
    expect(/https?:|url\((?!#)|@import|<script|<link|<iframe/i.exec(html)).toBeNull();
    expect(html.match(/<svg/g)).toHaveLength(3);
  });

  it('holds every number of the main table', () => {
    const html = asPage(evaluationDocument(report));
    for (const { arm, metrics } of report.slices[0]?.arms ?? []) {
      expect(html.includes(arm)).toBe(true);
      expect(html.includes(metrics.logloss.toFixed(4))).toBe(true);
    }
    expect(html.includes(report.run.metaDigest)).toBe(true);
    expect(/NaN|undefined|Infinity/.exec(html)).toBeNull();
  });

  it('escapes external text', () => {
    const hostile = { ...report, run: { ...report.run, storeAddress: '<img onerror="x">' } };
    const html = asPage(evaluationDocument(hostile));
    expect(html.includes('<img')).toBe(false);
    expect(html.includes('&lt;img onerror=&quot;x&quot;&gt;')).toBe(true);
  });
});
