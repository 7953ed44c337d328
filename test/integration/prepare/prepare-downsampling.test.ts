// A log that keeps one in ten impressions without a click teaches the click rates of all impressions.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { compiledLibrary } from '../../fixtures/commands/compiled-library.js';
import { openedOnce } from '../../fixtures/opened.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { rowsInDuckDb } from '../../fixtures/duckdb-for-test.js';

const KEPT_SHARE = 0.1;
const TRUE_RATES = { a: 0.02, b: 0.06, c: 0.15 };

describe('stored impressions', () => {
  const room = roomOfEachTest();

  test.each([
    [{ label: { column: 'clicked' } }, 'clicked', ['1', '0'], [1, 4], [1, 0]],
    [
      { label: { expression: 'clicked = 1' }, weight: 'w' },
      'clicked,w',
      ['1,3', '0,2'],
      [3, 8],
      [3, 0],
    ],
    [{ label: { clicks: 'c', impressions: 'n' } }, 'c,n', ['2,5', '0,3'], [14, 12], [2, 0]],
  ])('of %o', async (data, columns, rows, impressions, clicks) => {
    await room.write(
      'log.csv',
      [`ad,site,${columns}`, ...rows.map((row) => `x,y,${row}`)].join('\n'),
    );
    await room.prepare(room.config({ ...data, downsampling: 0.25 }));
    const [task] = (await room.stored()).rows;
    const places = [0, 1].map((row) => task!.logRows.indexOf(row));
    expect(places.map((place) => task!.impressions[place])).toEqual(impressions);
    expect(places.map((place) => task!.clicks[place])).toEqual(clicks);
  });

  test('a label of values is refused', () => {
    expect(() => room.config({ label: { value: 'rating' }, downsampling: 0.5 })).toThrow(
      /label of values has none/,
    );
  });
});

describe('a model of a downsampled log', () => {
  const folder = openedOnce(temporaryFolder);

  test('predicts the true rates, is calibrated, and needs the feature that decides them', async () => {
    const stream = randomStream(4, 'downsampled log');
    const lines = ['ad,site,noise,clicked'];
    const kept = { a: [0, 0], b: [0, 0], c: [0, 0] };
    for (let row = 0; row < 60_000; row += 1) {
      const site = (['a', 'b', 'c'] as const)[stream.below(3)]!;
      const clicked = stream.uniform() < TRUE_RATES[site] ? 1 : 0;
      if (clicked === 0 && stream.uniform() >= KEPT_SHARE) continue;
      kept[site][clicked]! += 1;
      lines.push(`g${stream.below(90)},${site},n${stream.below(4)},${clicked}`);
    }
    const at = (file: string): string => join(folder.path, file);
    await writeFile(at('log.csv'), `${lines.join('\n')}\n`);
    const library = await compiledLibrary();
    const config = {
      ...{ run: 'downsampled', seed: 2, output: at('run') },
      data: {
        ...{ logs: at('log.csv'), store: at('store'), task: 'ad', label: { column: 'clicked' } },
        downsampling: KEPT_SHARE,
        features: ['site', 'noise'].map((name) => ({ name, kind: 'category' as const })),
      },
      model: { kind: 'logistic' as const, hiddenWidths: [], personal: [] },
      method: { kind: 'global' as const },
      training: {
        ...{ outerSteps: 150, taskWeight: 'examples' as const, biasStart: 'click-rate' as const },
        optimizer: { kind: 'adam' as const, rate: 0.05 },
        schedule: { decay: 'cosine' as const, finalShare: 0.02 },
      },
      evaluation: { arms: ['constant' as const, 'global' as const], bootstrapSamples: 100 },
    };
    await library.prepare({ config });
    await library.train({ config });
    const [report] = await library.evaluate({ config, predictions: at('predictions.parquet') });

    const found = await rowsInDuckDb(
      `SELECT site, avg("global") FROM '${at('predictions.parquet')}' JOIN
        (SELECT row_number() OVER () - 1 AS row, site FROM read_csv('${at('log.csv')}')) USING (row) GROUP BY site`,
    );
    const predicted = new Map(found.map(([site, rate]) => [String(site), Number(rate)]));
    for (const site of ['a', 'b', 'c'] as const) {
      const [shown, clicked] = kept[site];
      const relativeError = Math.sqrt(1 / (0.7 * shown!) + 1 / (0.7 * clicked!));
      expect(Math.abs(predicted.get(site)! / TRUE_RATES[site] - 1)).toBeLessThan(3 * relativeError);
    }
    const trueMean = (0.02 + 0.06 + 0.15) / 3;
    expect(report!.trainClickRate).toBeCloseTo(trueMean, 2);
    const global = report!.slices[0]!.arms.find(({ arm }) => arm === 'global')!;
    expect(Math.abs(global.metrics.calibration! - 1)).toBeLessThan(0.15);
    const [first, second] = report!.importance!;
    expect([first!.feature, second!.feature]).toEqual(['site', 'noise']);
    expect(first!.increase).toBeGreaterThan(5 * first!.standardError);
    expect(Math.abs(second!.increase)).toBeLessThan(first!.increase / 5);
  });
});
