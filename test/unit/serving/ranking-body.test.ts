/** Bodies of requests: the example of the documentation is read, and bad ones name the field. */

import { describe, expect, test } from 'vitest';
import { valuesOf } from '../../../worker/serving/candidate-columns.js';
import { binaryRequest } from '../../fixtures/serving/binary-request.js';
import { parseBinaryBody, parseRankingBody } from '../../../worker/serving/server/ranking-body.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { codeBlocks, pageAt } from '../../fixtures/documentation/markdown-page.js';

function parsed(text: string): object {
  const { features, keyTexts, adgroups, ...rest } = parseRankingBody(Buffer.from(text));
  expect(valuesOf(adgroups)).toEqual(keyTexts());
  return {
    ...rest,
    bids: Array.from(rest.bids ?? []),
    pacings: Array.from(rest.pacings ?? []),
    keys: keyTexts(),
    features: Object.fromEntries([...features].map(([name, column]) => [name, valuesOf(column)])),
  };
}

function refusalOf(text: string | Uint8Array): RefusedRequest['refusal'] {
  try {
    parseRankingBody(Buffer.from(text));
  } catch (error) {
    if (error instanceof RefusedRequest) return error.refusal;
    throw error;
  }
  throw new Error('it was parsed');
}

describe('the body of a request', () => {
  test('is small where the catalog has the features', () => {
    const adgroup = Array.from({ length: 500 }, (_, place) => String(4_100_000_000 + 7 * place));
    const bid = adgroup.map((_, place) => (100 + place) / 100);
    const columns = JSON.stringify({ context: { user: 'u17' }, candidates: { adgroup, bid } });
    expect(parseRankingBody(Buffer.from(columns)).keyTexts()).toEqual(adgroup);
    expect(columns.length).toBeLessThan(10_000);
    const common = { context: { user: 'u17' } };
    const hashed = { adgroups: adgroup, areHashed: true, features: [] };
    const binary = binaryRequest(common, hashed);
    expect(parseBinaryBody(binary).candidateCount).toBe(500);
    expect(binary.length).toBeLessThanOrEqual(4_096);
  });

  test('is read as the documentation says', () => {
    const [objects = ''] = codeBlocks(pageAt('infra/docs/serving.md'), 'json');
    const [, columns = ''] = codeBlocks(pageAt('infra/docs/serving.md'), 'json');
    expect({ ...parsed(columns), pacings: [1, 1] }).toEqual(parsed(objects));
    expect(parsed(objects)).toMatchObject({
      ...{ keys: ['shoes-1', 'shoes-2'], bids: [0.8, 1.1], pacings: [1, 1] },
      features: { interests: [['running', 'fell'], []], price: [79.5, 120] },
      ...{ squash: 1, reserve: 0, seed: null, context: { user: 'u17', city: 'Oslo' } },
    });
  });

  test.each([
    ['{"candidates": [], "seed": -1}', /seed/],
    ['{"candidates": [], "squash": "1"}', /squash/],
    ['{"columns": {"adgroup": []}, "candidates": []}', /columns: there is no such field/],
    ['{"candidates": [], "fields": ["scores", "score"]}', /fields/],
    [`{"candidates": ${JSON.stringify(Array(5_001).fill({ adgroup: 'a' }))}}`, /at most 5000/],
  ])('%# is refused', (text, found) => {
    const refusal = refusalOf(text);
    expect(refusal.reason).toBe('wrong-value');
    expect(refusal.found).toMatch(found);
  });

  test.each([
    ['{"adgroup": 1.5}', /adgroup/],
    ['{"adgroup": "a", "features": {"x": {}}}', /features\.x/],
    ['{"adgroup": "a", "bids": 2}', /bids: there is no such field/],
  ])('%s is left out', (wrong, found) => {
    const text = `{"candidates": [{"adgroup": "b"}, ${wrong}]}`;
    const { candidateCount, dropped } = parseRankingBody(Buffer.from(text));
    expect([candidateCount, ...dropped.keys()]).toEqual([2, 1]);
    expect(dropped.get(1)).toMatchObject({ where: 'candidates.1', reason: 'wrong-value' });
    expect(dropped.get(1)?.found).toMatch(found);
  });
});
