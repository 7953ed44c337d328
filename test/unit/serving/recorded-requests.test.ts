/** Requests that are kept for the next bundle: few, the newest of a sample, within bytes, and those of a file for good. */

import { expect, test } from 'vitest';
import { RecordedRequests } from '../../../worker/serving/recorded-requests.js';

const request = (text: string) => ({
  path: '/v1/rank',
  mediaType: 'json',
  body: Buffer.from(text),
});

function textsOf(recorded: RecordedRequests): string[] {
  return recorded.all().map(({ body }) => body.toString());
}

test('the first ones, then one in three in place of the oldest', () => {
  const recorded = new RecordedRequests([request('given')], {
    ...{ countMax: 2, byteCountMax: 100, oneIn: 3 },
  });
  for (let number = 1; number <= 9; number += 1) recorded.take(request(`n${number}`));
  expect(textsOf(recorded)).toEqual(['given', 'n6', 'n9']);
});

test('no more bytes than the bound, and a copy of each body', () => {
  const recorded = new RecordedRequests([], { countMax: 10, byteCountMax: 5, oneIn: 1 });
  const body = Buffer.from('abc');
  recorded.take({ ...request(''), body });
  body.fill('x');
  expect(textsOf(recorded)).toEqual(['abc']);
  recorded.take(request('de'));
  recorded.take(request('a body beyond the bound'));
  expect(textsOf(recorded)).toEqual(['abc', 'de']);
  recorded.take(request('f'));
  expect(textsOf(recorded)).toEqual(['de', 'f']);
});
