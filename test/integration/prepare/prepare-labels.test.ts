// Value labels, and segments with different labels, in a store worked out by hand.
import { describe, expect, test } from 'vitest';
import { randomStream } from '../../../shared/base/random.js';
import { labelOf } from '../../../shared/tasks/task-label.js';
import { failureTextOf, roomOfEachTest } from '../../fixtures/stores/prepared-store.js';
import { warningsOf } from '../../fixtures/told.js';

const room = roomOfEachTest();

describe('a value as label', () => {
  const LOG = 'ad,site,rating,w,at\na,x,1,1,1\na,y,5,3,2\nb,x,3,1,1\nb,y,4,1,2\n';
  const rating = { label: { value: 'rating' }, time: 'at', rowSplit: { by: 'time' } };

  test('is stored standardised by the moments of the training rows', async () => {
    await room.write('log.csv', LOG);
    const manifest = await room.prepare(room.config(rating));
    // 1, 5, 3, 4: mean 13/4, mean of squares 51/4.
    const mean = 13 / 4;
    const deviation = Math.sqrt(51 / 4 - mean * mean);
    expect(manifest.labels).toHaveLength(1);
    const [label] = manifest.labels!;
    if (label?.loss !== 'squared') throw new Error('not a value');
    expect(label.segment).toBeNull();
    expect(label.mean).toBeCloseTo(mean, 12);
    expect(label.deviation).toBeCloseTo(deviation, 12);
    const { tasks, rows } = await room.stored();
    expect(tasks.map(({ labelIndex }) => labelIndex)).toEqual([0, 0]);
    const [a, b] = rows;
    expect(a!.loss).toBe('squared');
    const found = [...a!.clicks, ...b!.clicks];
    for (const [row, value] of [1, 5, 3, 4].entries())
      expect(found[row]).toBeCloseTo((value - mean) / deviation, 6);
    expect([...a!.impressions]).toEqual([1, 1]);
  });

  test('is weighted, in its moments and in the stored values', async () => {
    await room.write('log.csv', LOG);
    const manifest = await room.prepare(room.config({ ...rating, weight: 'w' }));
    // Rows 1, 5 (three times), 3, 4: mean 23/6, mean of squares 101/6.
    const mean = 23 / 6;
    const deviation = Math.sqrt(101 / 6 - mean * mean);
    expect(manifest.labels![0]).toMatchObject({ mean: expect.closeTo(mean, 12) as number });
    const [a] = (await room.stored()).rows;
    expect(a!.clicks[1]).toBeCloseTo((3 * (5 - mean)) / deviation, 6);
    expect([...a!.impressions]).toEqual([1, 3]);
  });

  test('is standardised by training tasks alone', async () => {
    const stream = randomStream(3, 'held out');
    const lines = Array.from({ length: 200 }, (_, row) => {
      const ad = row % 40;
      return `a${ad},x,${(ad + stream.normal()).toFixed(3)}`;
    });
    await room.write('log.csv', ['ad,site,rating', ...lines].join('\n'));
    const manifest = await room.prepare(
      room.config({
        label: { value: 'rating' },
        taskSplit: { by: 'hash', validationShare: 0.2, testShare: 0.3 },
      }),
    );
    const { tasks } = await room.stored();
    const trained = new Set(tasks.filter((t) => t.split === 'train').map(({ key }) => key));
    const values = lines
      .map((line) => line.split(','))
      .filter(([ad]) => trained.has(ad!))
      .map(([, , rating]) => Number(rating));
    expect(values.length).toBeLessThan(150);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(manifest.labels![0]).toMatchObject({ mean: expect.closeTo(mean, 9) as number });
  });

  test('may be an expression, and its known mean an oracle', async () => {
    await room.write('log.csv', 'ad,site,amount,truth\na,x,0,1\na,y,9,2\nb,x,0,1\nb,y,99,0\n');
    const config = room.config(
      { label: { valueExpression: 'log10(1 + amount)' } },
      { evaluation: { oracleColumn: 'truth' } },
    );
    const manifest = await room.prepare(config);
    const [label] = manifest.labels!;
    if (label?.loss !== 'squared') throw new Error('not a value');
    // 0, 1, 0, 2
    expect(label.mean).toBeCloseTo(3 / 4, 12);
    const [a] = (await room.stored()).rows;
    const row = [...a!.logRows].indexOf(1);
    expect(a!.clicks[row]).toBeCloseTo((1 - 3 / 4) / label.deviation, 6);
    expect(a!.oracle![row]).toBeCloseTo((2 - 3 / 4) / label.deviation, 6);
  });

  test('that is not a number rejects its row', async () => {
    await room.write('log.csv', LOG.replace('a,y,5', 'a,y,five').replace('b,x,3', 'b,x,1e39'));
    const failure = await failureTextOf(
      room.prepare(room.config({ ...rating, rejectedRowsMax: 0 })),
    );
    expect(failure).toContain('the column "rating" holds "five", expected a number');
    expect(failure).toContain('the column "rating" holds "1e39", expected a number');
  });

  test('leaves stores of clicks unchanged', async () => {
    await room.write('log.csv', 'ad,site,clicked\na,x,1\na,y,0\n');
    const manifest = await room.prepare(room.config());
    expect('labels' in manifest).toBe(false);
    const store = await room.stored();
    expect(store.tasks[0]).not.toHaveProperty('labelIndex');
    expect(labelOf(store.manifest, store.tasks[0]!)).toEqual({ loss: 'binary', segment: null });
  });
});

describe('a label that is the same in every training row is reported', () => {
  const CURE = 'nothing can be learned from it; check that the config names the right column';
  const warnings = (): string[] => warningsOf(room.events);

  test.each([
    ['all 0', '0', '0', [`every training row has label 0: ${CURE}`]],
    ['all 1', '1', '1', [`every training row has label 1: ${CURE}`]],
    ['both', '0', '1', []],
  ])('of clicks: %s', async (_, first, second, told) => {
    await room.write('log.csv', `ad,site,clicked\na,x,${first}\na,y,${second}\n`);
    await room.prepare(room.config());
    expect(warnings().filter((message) => message.includes('every training row'))).toEqual(told);
  });

  test('of values, and of the only segment that has it', async () => {
    await room.write('log.csv', 'ad,stage,site,amount\na,s,x,2\na,s,y,2\nb,t,x,1\nb,t,y,3\n');
    const labels = ['s', 't'].map((segment) => ({ segment, label: { value: 'amount' } }));
    await room.prepare(room.config({ segments: { column: 'stage', labels }, label: undefined }));
    expect(warnings()).toContain(`every training row of segment s has the value 2: ${CURE}`);
    expect(warnings().join()).not.toContain('segment t');
  });
});

describe('segments', () => {
  const LOG = `ad,stage,site,clicked,ordered,amount,w
a,new,x,1,?,?,2
a,new,y,0,?,?,2
b,regular,x,?,1,?,3
b,regular,y,?,0,?,5
c,buyer,x,?,?,10,1
c,buyer,y,?,?,30,1
d,buyer,y,?,?,20,1
d,buyer,y,?,?,20,1
`;
  const segments = {
    column: 'stage',
    labels: [
      { segment: 'new', label: { column: 'clicked' } },
      { segment: 'regular', label: { column: 'ordered' }, weight: 'w' },
      { segment: 'buyer', label: { value: 'amount' } },
    ],
  };
  const data = { label: undefined, segments, grouped: true, rejectedRowsMax: 0 };

  test('have one label, one weight and one loss each', async () => {
    await room.write('log.csv', LOG);
    const manifest = await room.prepare(room.config(data));
    expect(manifest.labels).toEqual([
      { loss: 'binary', segment: 'new' },
      { loss: 'binary', segment: 'regular' },
      {
        loss: 'squared',
        segment: 'buyer',
        mean: 20,
        deviation: expect.closeTo(Math.sqrt(50), 12) as number,
      },
    ]);
    const { rows: tasks, ...store } = await room.stored();
    expect(store.tasks.map(({ key, labelIndex }) => [key, labelIndex])).toEqual([
      ['a', 0],
      ['b', 1],
      ['c', 2],
      ['d', 2],
    ]);
    expect(tasks.map(({ loss }) => loss)).toEqual(['binary', 'binary', 'squared', 'squared']);
    // By row of the log: clicks or standardised values, and weights.
    const byRow = (task: (typeof tasks)[number], values: Float32Array): number[] =>
      [...task.logRows.keys()]
        .sort((x, y) => task.logRows[x]! - task.logRows[y]!)
        .map((row) => values[row]!);
    expect(byRow(tasks[0]!, tasks[0]!.clicks)).toEqual([1, 0]);
    expect(byRow(tasks[0]!, tasks[0]!.impressions)).toEqual([1, 1]);
    expect(byRow(tasks[1]!, tasks[1]!.clicks)).toEqual([3, 0]);
    expect(byRow(tasks[1]!, tasks[1]!.impressions)).toEqual([3, 5]);
    expect(byRow(tasks[2]!, tasks[2]!.clicks)[1]).toBeCloseTo(10 / Math.sqrt(50), 6);
    expect(byRow(tasks[3]!, tasks[3]!.clicks)).toEqual([0, 0]);
  });

  const faults: [string, string, Record<string, unknown>, RegExp][] = [
    [
      'a label outside 0 and 1 in a binary segment',
      LOG.replace('b,regular,y,?,0', 'b,regular,y,?,2'),
      {},
      /line 5: the column "ordered" holds "2", expected a label of 0 or 1/,
    ],
    [
      'a value that is no number',
      LOG.replace('?,?,30', '?,?,much'),
      {},
      /line 7: the column "amount" holds "much", expected a number/,
    ],
    [
      'a row of no segment',
      LOG.replace('d,buyer', 'd,seller'),
      {},
      /line 8: the column "stage" holds "seller", expected one of the segments new, regular, buyer/,
    ],
    [
      'a row without a segment',
      LOG.replace('d,buyer', 'd,'),
      {},
      /line 8: the column "stage" holds (nothing|""), expected one of the segments/,
    ],
    [
      'a segment without rows',
      LOG,
      {
        segments: {
          ...segments,
          labels: [...segments.labels, { segment: 'lost', label: { column: 'clicked' } }],
        },
      },
      /the segment lost has nothing to train on[^]*data\.segments\.labels\.3[^]*none of its accepted rows/,
    ],
    [
      'a task of two segments',
      LOG.replace('d,buyer', 'd,new').replace('?,?,20', '1,?,?'),
      {},
      /a task has rows of two segments[^]*task "d"[^]*new and buyer[^]*data\.task/,
    ],
  ];
  test.each(faults)('%s', async (_, log, changes, expected) => {
    await room.write('log.csv', log);
    expect(await failureTextOf(room.prepare(room.config({ ...data, ...changes })))).toMatch(
      expected,
    );
  });

  test('need one label each, given in a single place', () => {
    expect(() => room.config({ label: undefined })).toThrow(/label[^]*is missing/);
    expect(() => room.config({ segments })).toThrow(/not both/);
  });
});
