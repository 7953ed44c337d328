/** The sentences claim no more than the intervals, and the page is self-contained. */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { evaluationDocument } from '../../../coordinator/reports/evaluation-document.js';
import { beforeAll, describe, expect, it } from 'vitest';
import type { EvaluationReport, Interval } from '../../../coordinator/scoring/evaluation-report.js';
import { evaluateFormula } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

let report: EvaluationReport;
beforeAll(async () => {
  const found = await evaluateFormula({ store: tinyTaskStore({ taskCount: 100 }) });
  report = { ...found, run: { ...found.run, personalBlocks: ['bias', 'output'] } };
});

/** The report with another difference of meta-adapted from global-shift. */
function withDifference(perImpression: Interval): EvaluationReport {
  return {
    ...report,
    slices: report.slices.map((slice) => ({
      ...slice,
      arms: slice.arms.map((arm) => ({
        ...arm,
        differences: arm.differences.map((difference) =>
          arm.arm === 'meta-adapted' && difference.reference === 'global-shift'
            ? { ...difference, perImpression, perAdgroup: perImpression }
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
});

describe('names', () => {
  const shown = (of: EvaluationReport): string =>
    `${sentencesOf(of)} ${asPage(evaluationDocument(of))
      .replace(/<style>[^]*?<\/style>/g, '')
      .replace(/var\([^)]*\)/g, '')}`;

  it('of arms whose bias alone is personal are those of a level, but in the data', () => {
    const level = { ...report, run: { ...report.run, personalBlocks: ['bias'] } };
    expect(shown(report)).toMatch(/meta-adapted is /);
    expect(shown(level)).toMatch(/(^|\s)level is (not )?\w+ than global-shift/);
    for (const name of ['level', 'level-unadapted', 'level-chosen'])
      expect(shown(level)).toContain(`>${name}</`);
    expect(shown(level)).not.toMatch(/meta-(un)?adapted|meta-chosen/);
    expect(JSON.stringify(evaluationDocument(level).data)).toContain('"arm":"meta-adapted"');
  });

  it('of the settings are those of the method, and of gradient steps for the global model', () => {
    const settings = (method: string): string =>
      shown({ ...report, run: { ...report.run, method } });
    expect(settings('fomaml')).not.toMatch(/prior scale/);
    expect(settings('posterior')).toMatch(/meta-adapted\s+prior scale [\d.]+, \d+ Newton steps?\b/);
    expect(settings('posterior')).toMatch(/finetuned\s+inner rate [\d.]+, \d+ inner steps?\b/);
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

  it('escapes external text', () => {
    const hostile = { ...report, run: { ...report.run, storeAddress: '<img onerror="x">' } };
    const html = asPage(evaluationDocument(hostile));
    expect(html.includes('<img')).toBe(false);
    expect(html.includes('&lt;img onerror=&quot;x&quot;&gt;')).toBe(true);
  });
});
