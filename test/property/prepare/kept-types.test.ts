// A delimited log is kept as numbers where its texts allow it. The store is that of JSON Lines, whose texts are kept,
// whatever the rows after the first ones hold: `007` is another adgroup than `7`.
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { prepareRoom, type PrepareRoom } from '../../fixtures/stores/prepared-store.js';

/** More rows than types are chosen by. */
const PLAIN_ROW_COUNT = 2100;
const NAMES = ['ad', 'site', 'user', 'price', 'at', 'clicked'] as const;
type Row = Record<(typeof NAMES)[number], string | null>;

const WHOLE = ['7', '70', '-7', '0', null] as const;
const ODD = ['007', '+7', ' 7', '7.0', '7e1', '-0', '0x7', '12345678901', 'x', '9'.repeat(20)];

const oddRow: fc.Arbitrary<Row> = fc.record({
  ad: fc.constantFrom('7', '70', '-7', ...ODD),
  site: fc.constantFrom(...WHOLE, ...ODD),
  user: fc.constantFrom(...WHOLE, ...ODD),
  price: fc.constantFrom('1', '1.50', '1e3', '-0', '0.1', ' 2', null, 'much', 'nan', '1e400'),
  at: fc.constantFrom('5', '5.5', '2026-11-01 20:15:00', '1e1', 'soon'),
  clicked: fc.constantFrom('0', '1', '1.0', 'true', 'False', '2', null),
});

/** A row with odd texts in two columns at most, so that some logs have numbers, and some have one column of another type. */
const rowWithOdd = fc
  .tuple(oddRow, fc.subarray([...NAMES], { minLength: 0, maxLength: 2 }))
  .map(([odd, names]) =>
    names.reduce((row, name) => ({ ...row, [name]: odd[name] }), plainRow(NAMES.length)),
  );

function plainRow(n: number): Row {
  return {
    ad: String(n % 5),
    site: n % 7 === 0 ? null : String((n * 37) % 11),
    user: String(n * 1_000_003),
    price: (n / 8).toFixed(2),
    at: String(1_700_000_000 + n),
    clicked: n % 3 === 0 ? '1' : '0',
  };
}

function withOdd(odd: Partial<Row>): Row {
  return { ...plainRow(3), ...odd };
}

async function prepared(room: PrepareRoom, log: string): Promise<unknown> {
  const store = room.path(`store of ${log}`);
  const manifest = await room.prepare(
    room.config({
      logs: room.path(log),
      store,
      time: 'at',
      rejectedRowsMax: 100,
      rowSplit: { by: 'time', supportRowsMax: 100, queryRowsMax: 200 },
      features: [
        { name: 'site', kind: 'category' },
        { name: 'again', kind: 'category', column: 'site', hashBuckets: 50 },
        { name: 'user', kind: 'category', countMin: 1, unseenBuckets: 4 },
        { name: 'price', kind: 'number', scale: 'log-standard', missing: 0 },
      ],
    }),
  );
  const rejects = await readFile(`${store}/rejects.jsonl`, 'utf8');
  const { sourceDigest: _source, files, ...rest } = manifest;
  return {
    ...rest,
    files: files.filter(({ name }) => !['rejects.jsonl', 'columns.json'].includes(name)),
    reasons: [...rejects.matchAll(/"reason":.*/g)].map(([reason]) => reason),
  };
}

test('the store of numbers is that of their texts', async () => {
  const plain = Array.from({ length: PLAIN_ROW_COUNT }, (_, n) => plainRow(n));
  await fc.assert(
    fc.asyncProperty(fc.array(rowWithOdd, { minLength: 1, maxLength: 4 }), async (odd) => {
      const room = await prepareRoom();
      try {
        const rows = [...plain, ...odd];
        const lines = rows.map((row) => NAMES.map((name) => row[name] ?? '').join(','));
        await room.write('log.csv', [NAMES.join(','), ...lines, ''].join('\n'));
        await room.write('log.jsonl', rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
        expect(await prepared(room, 'log.csv')).toEqual(await prepared(room, 'log.jsonl'));
      } finally {
        await room.remove();
      }
    }),
    {
      numRuns: 7,
      examples: [[[plainRow(3)]], [[withOdd({ ad: '003' })]], [[withOdd({ clicked: '2' })]]],
    },
  );
});
