// `npm run check -- digests` covers every method and model, and names each difference from the record.

import { readFileSync } from 'node:fs';
import { expect, it, test } from 'vitest';
import { METHODS } from '../../shared/methods/methods.js';
import { MODELS } from '../../shared/models/kinds/models.js';
import { DIGEST_CASES } from '../digests/cases.js';
import { differencesFrom, RecordedDigestsSchema } from '../digests/recorded-digests.js';
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

it('the comparison names each value that differs, is missing or is new', () => {
  const cases = { maml: { training: 'ab' }, fm: { training: 'cc', config: 'dd' } };
  expect(differencesFrom(RECORDED, { cases, demoTable: [] })).toEqual([
    'maml: training aa -> ab',
    'maml: logits bb -> (none)',
    'fm: config (none) -> dd',
  ]);
});
