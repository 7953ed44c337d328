// What prepare reports of the data, and the pairs of categories that it chooses, on logs whose answers are known.
import { mkdir, rm } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { prepareRun } from '../../../coordinator/runs/prepare-run.js';
import { randomStream } from '../../../shared/base/random.js';
import { runContext } from '../../fixtures/run-context.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';
import { warningsOf } from '../../fixtures/told.js';

const room = roomOfEachTest();
const DAY = 86_400;
const FIRST_DAY = 20_000;

test('missing and distinct values, those new in test, the day that differs, and a column that tells the label', async () => {
  const stream = randomStream(6, 'data report');
  const lines = ['ad,site,device,age,dwell,day,at,clicked'];
  for (let row = 0; row < 8_000; row += 1) {
    const ad = stream.below(50);
    const day = stream.below(8);
    const clicked = stream.uniform() < 0.2 ? 1 : 0;
    // Day 5 has other devices.
    const device = day === 5 ? 'tablet' : ['phone', 'desktop'][stream.below(2)];
    const age = row % 4 === 0 ? '' : 20 + stream.below(30);
    const dwell = clicked === 1 || stream.uniform() < 0.01 ? 5 + stream.below(50) : '';
    lines.push(
      `g${ad},s${stream.below(7)},${device},${age},${dwell},${day},${(FIRST_DAY + day) * DAY + row},${clicked}`,
    );
  }
  await room.write('log.csv', `${lines.join('\n')}\n`);
  const { report } = await room.reported(
    room.config({
      time: 'at',
      taskSplit: { by: 'hash', validationShare: 0.1, testShare: 0.3 },
      features: [
        { name: 'site', kind: 'category' },
        { name: 'ad name', kind: 'category', column: 'ad' },
        { name: 'device', kind: 'category' },
        { name: 'age', kind: 'number', missing: -1 },
        { name: 'dwell', kind: 'number', missing: 0 },
      ],
    }),
  );
  const [site, name, device, age, dwell] = report!.features;
  expect(report!.rowCount).toBe(8_000);
  expect(report!.periods.map((period) => period.name)).toEqual(
    Array.from({ length: 8 }, (_, day) => `2024-10-${String(4 + day).padStart(2, '0')}`),
  );
  expect(report!.periods.reduce((sum, { rowCount }) => sum + rowCount, 0)).toBe(8_000);
  for (const { rate } of report!.periods) expect(rate).toBeCloseTo(0.2, 1);
  expect([site!.valueCount, name!.valueCount, device!.valueCount]).toEqual([7, 50, 3]);
  expect([site!.missingShare, age!.missingShare]).toEqual([0, 0.25]);
  expect([site!.unseenShare, name!.unseenShare, age!.unseenShare]).toEqual([0, 1, null]);
  expect(device!.driftPeriod).toBe(5);
  expect(device!.drift).toBeGreaterThan(0.8);
  for (const steady of [site, age]) expect(steady!.drift).toBeLessThan(0.1);
  expect(dwell!.toldShare).toBeGreaterThan(0.7);
  for (const harmless of [site, name, device, age]) expect(harmless!.toldShare).toBeLessThan(0.05);
  expect(warningsOf(room.events)).toContainEqual(
    expect.stringMatching(/^the label can be read from dwell \(\d+ %\)/),
  );
});

test('of many categories, the pairs that say more than both alone are encoded, and appended logs keep them', async () => {
  const names = Array.from({ length: 12 }, (_, index) => `c${index}`);
  const stream = randomStream(7, 'pairs');
  const linesOf = (rowCount: number, from: number): string[] =>
    Array.from({ length: rowCount }, (_, row) => {
      const values = names.map(() => stream.below(6));
      // c3 and c9 decide together and alone, c1 alone.
      const [odd, otherOdd] = [values[3]! % 2, values[9]! % 2];
      const logit = -2 + 2.5 * (odd ^ otherOdd) + 1.5 * (odd + otherOdd) + 0.4 * (values[1]! - 2.5);
      const clicked = stream.uniform() < 1 / (1 + Math.exp(-logit)) ? 1 : 0;
      return `g${stream.below(40)},${values.join(',')},${from + row},${clicked}`;
    });
  const header = `ad,${names.join(',')},at,clicked`;
  await room.write('log.csv', [header, ...linesOf(6_000, 0)].join('\n'));
  await room.write('later.csv', [header, ...linesOf(400, 6_000)].join('\n'));
  const config = room.config({
    ...{ time: 'at', rowSplit: { by: 'time' } },
    features: names.map((name) => ({ name, kind: 'category' })),
    targetEncodings: { of: names, pairsMax: 3 },
  });
  const { features } = await room.prepare(config);
  const encoded = features.flatMap((feature) =>
    feature.kind === 'number' && feature.encodes?.input === 'rate' ? [feature.encodes.of] : [],
  );
  expect(encoded.slice(0, 12)).toEqual(names.map((name) => [name]));
  const pairs = encoded.slice(12);
  expect(pairs[0]).toEqual(['c3', 'c9']);
  expect(pairs.length).toBeLessThanOrEqual(3);
  expect((await room.prepare(config, { force: true })).features).toEqual(features);
  await room.append(config, 'later.csv');
  expect((await room.stored()).manifest.features.map(({ name }) => name)).toEqual(
    features.map(({ name }) => name),
  );
});

test('a pair of numbers in log buckets is chosen by the buckets, which are what is encoded', async () => {
  const stream = randomStream(8, 'pairs of ids');
  const lines = ['ad,site,price,size,clicked'];
  for (let row = 0; row < 3_000; row += 1) {
    const [price, size, site] = [stream.below(4), stream.below(4), stream.below(5)];
    const clicked = stream.uniform() < 0.2 + 0.6 * ((price + size) % 2) ? 1 : 0;
    // No number repeats, and its bucket tells all.
    const exact = [price, size].map((bucket) => 2 ** bucket * (1 + stream.uniform()) - 1);
    lines.push(`g${stream.below(40)},s${site},${exact.join(',')},${clicked}`);
  }
  await room.write('log.csv', `${lines.join('\n')}\n`);
  const bucketed = { kind: 'number', scale: 'log-bucket', missing: 0 };
  const { features } = await room.prepare(
    room.config({
      features: [
        { name: 'site', kind: 'category' },
        ...['price', 'size'].map((name) => ({ name, ...bucketed })),
      ],
      targetEncodings: { of: ['site', 'price', 'size'], pairsMax: 1 },
    }),
  );
  expect(features.map(({ name }) => name)).toContain('target.price+size');
});

test('an adgroup whose rows train the trunk lies in one half, so its name tells nothing', async () => {
  const lines = ['ad,site,clicked'];
  for (let ad = 0; ad < 300; ad += 1)
    for (let row = 0; row < 6; row += 1) lines.push(`small${ad},s,${ad % 2}`);
  for (let row = 0; row < 40; row += 1) lines.push(`big${row % 2},s,${row % 3 === 0 ? 1 : 0}`);
  await room.write('log.csv', `${lines.join('\n')}\n`);
  const { manifest, report } = await room.reported(
    room.config({
      ...{ trunkRows: 'small-tasks', rowSplit: { by: 'hash', supportRowsMin: 5, queryRowsMin: 5 } },
      features: [{ name: 'ad name', kind: 'category', column: 'ad' }],
    }),
  );
  expect(manifest.trunk?.batchCount).toBeGreaterThan(10);
  expect(report!.features[0]!.toldShare).toBeCloseTo(0, 9);
});

test('logs that repeat in turns are sampled from all turns', async () => {
  const lines = Array.from({ length: 100_002 }, (_, row) => `g${row % 4},s${row % 2},${row % 3}`);
  await room.write('log.csv', `ad,site,clicks\n${lines.join('\n')}\n`);
  const label = { expression: 'clicks = 0' };
  const { report } = await room.reported(room.config({ label }));
  expect(report!.features[0]!.valueCount).toBe(2);
  expect(Math.abs(report!.rowCount - 50_001)).toBeLessThan(1_000);
});

test('where the page of the data cannot be written, the next prepare makes store and page', async () => {
  await room.write('log.csv', 'ad,site,clicked\na,x,1\na,y,0\nb,x,1\nb,y,0\n');
  const inTheWay = room.path('output/data.html');
  await mkdir(inTheWay, { recursive: true });
  const closing: (() => Promise<void>)[] = [];
  const context = runContext({ onClose: (close) => void closing.push(close) });
  const request = { config: room.config(), force: false };
  await expect(prepareRun(request, context)).rejects.toThrow();
  await rm(inTheWay, { recursive: true });
  expect((await prepareRun(request, context)).report).not.toBeNull();
  for (const close of closing) await close();
});
