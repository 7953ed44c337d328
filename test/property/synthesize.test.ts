import fc from 'fast-check';
import { expect, it } from 'vitest';
import { zipfSizes } from '../../coordinator/synthesize/adgroup-sizes.js';
import { ArrivalFinder, chunkBoundaries } from '../../coordinator/synthesize/arrivals.js';
import { solveIntercept } from '../../coordinator/synthesize/click-model.js';
import { CsvRowWriter, type RowSource } from '../../coordinator/synthesize/csv-rows.js';
import { buildWorld } from '../../coordinator/synthesize/synthetic-world.js';

const ROWS = 4000;
const source = smallSource();
const whole = text(source, [0, Infinity]);

function smallSource(): RowSource {
  const world = buildWorld({
    rows: ROWS,
    setting: 'strong',
    meanClickRate: 0.1,
    seed: 9,
    adgroupCount: 60,
    userCount: 200,
  });
  const intercept = solveIntercept(world, 0.1);
  return { world, intercept };
}

function text(from: RowSource, boundaries: readonly number[]): string {
  const writer = new CsvRowWriter(from);
  let joined = '';
  for (let chunk = 0; chunk + 1 < boundaries.length; chunk += 1) {
    const { bytes } = writer.rowsBetween(boundaries[chunk]!, boundaries[chunk + 1]!);
    joined += Buffer.from(bytes).toString('latin1');
  }
  return joined;
}

it('any division of the log into chunks joins to the same bytes', () => {
  expect(whole.split('\n')).toHaveLength(ROWS + 1);
  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
  fc.assert(
    fc.property(cuts, (inner) => {
      const boundaries = [0, ...inner.sort((a, b) => a - b), Infinity];
      expect(text(source, boundaries)).toBe(whole);
    }),
    { numRuns: 60 },
  );
});

it('a division at the exact time of an arrival neither loses nor duplicates it', () => {
  const { count, order, trafficTimes } = new ArrivalFinder(source.world.adgroups).between(
    0,
    Infinity,
  );
  const times = Array.from(order.subarray(0, count), (at) => trafficTimes[at]!);
  const cuts = times.filter((_, row) => row % 7 === 0);
  expect(text(source, [0, ...cuts, Infinity])).toBe(whole);
});

it('boundaries rise and divide the rows evenly', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), (chunkCount) => {
      const boundaries = chunkBoundaries(source.world.adgroups, chunkCount);
      expect(boundaries).toHaveLength(chunkCount + 1);
      const writer = new CsvRowWriter(source);
      let rows = 0;
      for (let chunk = 0; chunk < chunkCount; chunk += 1) {
        expect(boundaries[chunk + 1]).toBeGreaterThan(boundaries[chunk]!);
        const { rowCount } = writer.rowsBetween(boundaries[chunk]!, boundaries[chunk + 1]!);
        expect(rowCount).toBeLessThan((2 * ROWS) / chunkCount + 60);
        rows += rowCount;
      }
      expect(rows).toBe(ROWS);
    }),
    { numRuns: 20 },
  );
});

it('sizes sum to the rows, fall with the rank and respect their bounds', () => {
  const inputs = fc
    .tuple(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 0, max: 100_000 }))
    .map(([adgroupCount, extra]) => ({ adgroupCount, rows: 5 * adgroupCount + extra }));
  fc.assert(
    fc.property(inputs, ({ adgroupCount, rows }) => {
      const law = { exponent: 1.1, impressionsMin: 5, shareMax: 0.02 };
      const sizes = zipfSizes(rows, adgroupCount, law);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(rows);
      const shareMax = Math.max(0.02, Math.min(1, 4 / adgroupCount));
      for (let rank = 0; rank < adgroupCount; rank += 1) {
        expect(sizes[rank]).toBeGreaterThanOrEqual(5);
        expect(sizes[rank]).toBeLessThanOrEqual(Math.ceil(rows * shareMax));
        if (rank > 0) expect(sizes[rank]).toBeLessThanOrEqual(sizes[rank - 1]!);
      }
    }),
  );
});
