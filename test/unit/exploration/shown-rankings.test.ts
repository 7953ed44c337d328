import { expect, test } from 'vitest';
import { rankingLine, shownRankingsIn } from '../../../shared/config/row-record.js';

const place = { segment: null, bid: 1, propensity: 1, isExploration: false };

test('shown places are read with the values that they were scored by, and say which blocks were live', () => {
  const line = rankingLine({
    ...{ id: 'd', epochMs: 1, bundle: 'b', decision: null },
    context: { user: 'u', site: 's' },
    shown: [
      { ...place, adgroup: 'a', probability: 0.1 },
      { ...place, adgroup: 'c', probability: null, isLive: true },
    ],
    features: { site: ['x', 's'], age: [1, null] },
  });
  expect([...shownRankingsIn(line, 'file')]).toMatchObject([
    {
      ...{ id: 'd', bundle: 'b', context: { user: 'u' } },
      shown: [
        { adgroup: 'a', probability: 0.1, isLive: false, features: { site: 'x', age: 1 } },
        { adgroup: 'c', probability: null, isLive: true, features: { site: 's', age: null } },
      ],
    },
  ]);
  expect([...shownRankingsIn(line, 'file')][0]?.context).toEqual({ user: 'u' });
});

test('a line has no column about live blocks where there are none', () => {
  const shown = [{ ...place, adgroup: 'a', probability: 0.1 }];
  const line = rankingLine({
    ...{ id: 'd', epochMs: 1, bundle: 'b', decision: null, context: {}, features: {}, shown },
  });
  expect(line).not.toContain('isLive');
});
