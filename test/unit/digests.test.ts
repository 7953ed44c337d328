// `npm run check -- digests` covers every method and model, and names each difference from the record.

import { readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';
import { METHODS } from '../../shared/methods/methods.js';
import { MODELS } from '../../shared/models/kinds/models.js';
import { DIGEST_CASES } from '../digests/cases.js';
import { jsonValues } from '../digests/outcomes.js';
import {
  differencesFrom,
  digestTable,
  RecordedDigestsSchema,
  withCases,
} from '../digests/recorded-digests.js';
import { METHOD_CASES, MODEL_CASES } from '../digests/world-cases.js';

const kindsOf = (sections: readonly (object | undefined)[]): string[] =>
  sections.flatMap((section) =>
    section !== undefined && 'kind' in section ? [String(section.kind)] : [],
  );

test('every method has a case', () => {
  expect(kindsOf(METHOD_CASES.map(({ method }) => method))).toEqual(
    expect.arrayContaining([...METHODS.kinds()]),
  );
});

test('every model has a case', () => {
  expect(kindsOf(MODEL_CASES.map(({ model }) => model))).toEqual(
    expect.arrayContaining([...MODELS.kinds()]),
  );
});

test('case names are unique, and the record holds every case', () => {
  const names = DIGEST_CASES.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  const recorded = RecordedDigestsSchema.parse(
    JSON.parse(readFileSync('infra/results/digests.json', 'utf8')),
  );
  expect(Object.keys(recorded.cases)).toEqual(['demo', ...names]);
});

const RECORDED = {
  ...{ commit: '1a2b3c4', date: '2026-01-01', machine: 'a machine' },
  cases: { maml: { training: 'aa', logits: 'bb' }, fm: { training: 'cc' } },
  addedAt: {},
  demoTable: ['arm  logloss', 'global  0.5'],
};

describe('the comparison', () => {
  it('is empty when all values are equal, also for a subset of the cases', () => {
    expect(differencesFrom(RECORDED, RECORDED)).toEqual([]);
    expect(differencesFrom(RECORDED, { cases: { fm: { training: 'cc' } }, demoTable: [] })).toEqual(
      [],
    );
  });

  it('names each value that differs, is missing or is new', () => {
    const cases = { maml: { training: 'ab' }, fm: { training: 'cc', config: 'dd' } };
    expect(differencesFrom(RECORDED, { cases, demoTable: [] })).toEqual([
      'maml: training aa -> ab',
      'maml: logits bb -> (none)',
      'fm: config (none) -> dd',
    ]);
  });

  it("shows the first line of the demo's table that differs", () => {
    const demoTable = ['arm  logloss', 'global  0.6'];
    expect(differencesFrom(RECORDED, { cases: {}, demoTable })).toEqual([
      'demo: line 2 of the printed table\n  - global  0.5\n  + global  0.6',
    ]);
  });
});

describe('a case that is added to the record', () => {
  const later = { commit: '5d6e7f8', machine: 'a machine', cases: { fwfm: { training: 'ee' } } };
  const order = ['maml', 'fwfm', 'fm'];

  it('stands in its place, and the others stay as they are', () => {
    const { cases, ...others } = withCases(RECORDED, later, order);
    expect(Object.entries(cases)).toEqual([
      ['maml', RECORDED.cases.maml],
      ['fwfm', { training: 'ee' }],
      ['fm', RECORDED.cases.fm],
    ]);
    const { cases: _, ...unchanged } = RECORDED;
    expect(others).toEqual({ ...unchanged, addedAt: { fwfm: '5d6e7f8' } });
  });

  it('is refused if it is recorded already, or on another machine', () => {
    const again = { ...later, cases: { fm: { training: 'ee' } } };
    expect(() => withCases(RECORDED, again, order)).toThrow('already recorded: fm');
    const elsewhere = { ...later, machine: 'another machine' };
    expect(() => withCases(RECORDED, elsewhere, order)).toThrow('the record is of a machine');
  });
});

test('the table lines up', () => {
  expect(digestTable({ maml: { training: '0123456789abcdef' } })).toEqual([
    '| case | training     | logits | evaluation | outcome | config |',
    '| ---- | ------------ | ------ | ---------- | ------- | ------ |',
    '| maml | 0123456789ab |        |            |         |        |',
  ]);
});

describe('the digest of JSON', () => {
  const report = { run: { configHash: 'ab12', durationMs: 5, seed: 1 }, logloss: 0.5 };
  it('leaves out times and the config hash, and does not depend on key order', () => {
    const other = { logloss: 0.5, run: { seed: 1, durationMs: 7, configHash: 'ff' } };
    const { outcome, config } = jsonValues(JSON.stringify(report));
    expect(jsonValues(JSON.stringify(other)).outcome).toBe(outcome);
    expect(config).toBe('ab12');
  });

  it('depends on everything else', () => {
    const { outcome } = jsonValues(JSON.stringify(report));
    const others = [
      { ...report, logloss: 0.5000001 },
      { ...report, extra: 0 },
      { ...report, run: { ...report.run, seed: 2 } },
    ];
    for (const other of others) expect(jsonValues(JSON.stringify(other)).outcome).not.toBe(outcome);
  });
});
