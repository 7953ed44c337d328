// The section `data.targetEncodings`: names of the numbers that it adds, and what it refuses.
import { expect, test } from 'vitest';
import { DataConfigSchema, declaredFeatures } from '../../../shared/config/data-config.js';

const data = (targetEncodings: object, changes: object = {}): unknown => ({
  ...{ logs: 'log.csv', store: 'store', task: 'ad', label: { column: 'clicked' } },
  features: [
    { name: 'site', kind: 'category' },
    { name: 'hour', kind: 'category' },
    { name: 'price', kind: 'number' },
    { name: 'size', kind: 'number', scale: 'log-bucket', missing: 0 },
    { name: 'tags', kind: 'bag' },
  ],
  targetEncodings,
  ...changes,
});

test('each adds a rate and a count behind the features', () => {
  const parsed = DataConfigSchema.parse(data({ of: ['site', ['size', 'hour']] }));
  expect(parsed.targetEncodings).toMatchObject({ smoothing: 20, folds: 5 });
  expect(declaredFeatures(parsed).map(({ name }) => name)).toEqual([
    ...['site', 'hour', 'price', 'size', 'tags'],
    ...['target.site', 'target.site.count', 'target.size+hour', 'target.size+hour.count'],
  ]);
  expect(declaredFeatures(DataConfigSchema.parse(data({ of: ['site'] }))).at(-1)).toMatchObject({
    kind: 'number',
    scale: 'none',
  });
});

test.each([
  ['a number', { of: ['price'] }, {}, /no category price; expected one of site, hour, size/],
  [
    'a pair twice',
    {
      of: [
        ['site', 'hour'],
        ['hour', 'site'],
      ],
    },
    {},
    /listed already/,
  ],
  [
    'pairs of one category',
    { of: ['site', ['site', 'hour']], pairsMax: 3 },
    {},
    /two single categories in of, at least; found 1: list more/,
  ],
  [
    'a name that is taken',
    { of: ['site'] },
    {
      features: [
        { name: 'site', kind: 'category' },
        { name: 'target.site', kind: 'number' },
      ],
    },
    /the name target.site, which another one has/,
  ],
])('is refused: %s', (name, encodings, changes, message) => {
  const parsed = DataConfigSchema.safeParse(data(encodings, changes));
  expect(name).not.toBe('');
  expect(parsed.error?.issues.map((issue) => issue.message).join('\n')).toMatch(message);
});
