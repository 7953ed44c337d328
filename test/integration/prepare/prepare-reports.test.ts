/** Aggregated rows as ad platforms export them: counts with separators of thousands, and lines above the header. */

import { expect, test } from 'vitest';
import { failureTextOf, roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

const HEADER = 'Ad group,Device,Max. CPC,Impr.,Clicks';
const ROWS = [
  'Shoes,phone,0.50,"1,278",70',
  'Shoes,desktop,1.25,90,3',
  'Hats,phone,"2,000.00","1,000,400","40,016"',
  'Hats,desktop,0.75,7,0',
  'Hats,tablet,0.80,60,1',
];

function plain(count: string): { expression: string } {
  return { expression: `CAST(replace("${count}", ',', '') AS DOUBLE)` };
}

const REPORT = {
  task: 'Ad group',
  label: { clicks: plain('Clicks'), impressions: plain('Impr.') },
  features: [
    { name: 'device', column: 'Device', kind: 'category' },
    {
      ...{ name: 'bid', kind: 'number', missing: 1 },
      expression: `TRY_CAST(replace("Max. CPC", ',', '') AS DOUBLE)`,
    },
  ],
};

const failureOf = (data: object): Promise<string> => failureTextOf(room.prepare(room.config(data)));

test('an expression reads counts and prices of which a few have separators of thousands', async () => {
  await room.write('log.csv', [HEADER, ...ROWS, ''].join('\n'));
  const manifest = await room.prepare(room.config(REPORT));
  expect(manifest.rejectedRowCount).toBe(0);
  const { rows } = await room.stored();
  const impressions = rows.flatMap((task) =>
    [...task.logRows].map((row, place): [number, number, number] => [
      row,
      task.clicks[place] ?? NaN,
      task.impressions[place] ?? NaN,
    ]),
  );
  expect(impressions.sort(([a], [b]) => a - b)).toEqual([
    [0, 70, 1278],
    [1, 3, 90],
    [2, 40016, 1000400],
    [3, 0, 7],
    [4, 1, 60],
  ]);
  const bid = manifest.features.find(({ name }) => name === 'bid');
  expect(bid).toMatchObject({ mean: expect.closeTo(2003.3 / 5, 3) as number });
});

test('a column that an expression takes as numbers keeps them, and its other texts are missing', async () => {
  await room.write('log.csv', [HEADER, ...ROWS, ''].join('\n'));
  const isMissing = 'CASE WHEN "Max. CPC" IS NULL THEN 1 ELSE 0 END';
  const unbid = { name: 'unbid', kind: 'number', expression: isMissing };
  const features = [REPORT.features[0], unbid];
  const manifest = await room.prepare(room.config({ ...REPORT, features }));
  const found = manifest.features.find(({ name }) => name === 'unbid');
  expect(found).toMatchObject({ mean: expect.closeTo(1 / 5, 6) as number });
});

test.each([
  ['clicks', { label: { clicks: plain('Device'), impressions: plain('Impr.') } }],
  ['impressions', { label: { clicks: plain('Clicks'), impressions: plain('Device') } }],
])('%s that the expression does not give reject their rows', async (name, data) => {
  await room.write('log.csv', [HEADER, ...ROWS, ''].join('\n'));
  const told = await failureOf({ ...REPORT, ...data, rejectedRowsMax: 0 });
  expect(told).toContain(`the expression of data.label.${name} does not give a count`);
});

test('lines above the header are named where the header lacks a column', async () => {
  const above = ['\ufeffAd group report', '"November 1, 2026 - November 21, 2026"'];
  await room.write('log.csv', [...above, HEADER, ...ROWS, ''].join('\r\n'));
  const told = await failureOf(REPORT);
  expect(told).toContain('line 3 has it');
  expect(told).toContain('remove the 2 lines above the header');
});
