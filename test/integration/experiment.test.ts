/** `qianmo experiment` on a table and on the row log of servers, as a user calls it. */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { experimentDocument } from '../../coordinator/reports/experiment-document.js';
import { asText } from '../../coordinator/reports/document/as-text.js';
import { experiment } from '../../infra/library/index.js';
import { randomStream } from '../../shared/base/random.js';
import { feedbackLine, rankingLine } from '../../shared/config/row-record.js';
import { feedbackOn, rowLogHead, settingsOf } from '../fixtures/decision-input.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';
import { openedOnce } from '../fixtures/opened.js';
import { expectFailureOf } from '../fixtures/failures.js';

const folder = openedOnce(temporaryFolder);

const UNIT_COUNT = 400;
const unitsOf = <Row>(rows: (unit: number) => readonly Row[]): Row[] =>
  Array.from({ length: UNIT_COUNT }, (_, unit) => rows(unit)).flat();

async function table(name: string, rows: readonly string[]): Promise<string> {
  const path = join(folder.path, name);
  await writeFile(path, ['user,group,day,orders,seen,country', ...rows].join('\n'));
  return path;
}

it('counts units, outcomes and impressions of a table, and what was before the test apart', async () => {
  const stream = randomStream(1, 'table');
  const log = await table(
    'test.csv',
    unitsOf((unit) => {
      const group = unit % 4 === 0 ? 'new' : 'old';
      const orders = stream.below(3) + (group === 'new' ? 2 : 0);
      const country = unit % 2 === 0 ? 'NO' : 'SE';
      return [
        `u${unit},${group},2026-11-30,${stream.below(3)},5,${country}`,
        `u${unit},${group},2026-12-01,${orders},10,${country}`,
        // A unit without a test row is of no arm.
        `other${unit},old,2026-11-30,1,5,NO`,
      ];
    }).concat(
      // Units that see both arms, a row without a unit, and one without an arm.
      [
        'x,old,2026-12-01,1,1,NO',
        'x,new,2026-12-01,1,1,NO',
        ',new,2026-12-01,1,1,NO',
        'y,,2026-12-01,1,1,NO',
      ],
    ),
  );
  const report = await experiment({
    logs: [log],
    columns: {
      ...{ unit: 'user', arm: 'group', outcome: 'orders', impressions: 'seen' },
      ...{ time: 'day', segment: 'country' },
    },
    from: '2026-12-01',
    share: 0.25,
  });
  const [control, treatment] = report.arms;
  expect(control).toMatchObject({ arm: 'old', unitCount: 300, impressionCount: 3_000 });
  expect(treatment).toMatchObject({ arm: 'new', unitCount: 100, verdict: 'better' });
  expect(treatment?.mean).toBe((treatment?.outcomeSum ?? NaN) / 1_000);
  expect(report).toMatchObject({ control: 'old', crossedCount: 1, otherRowCount: 2, warnings: [] });
  expect(report.explainedShare).toBeGreaterThanOrEqual(0);
  const inSegments = report.segments.map(({ segment, arms }) => [segment, arms[0]?.unitCount]);
  expect(inSegments).toEqual([
    ['NO', 100],
    ['SE', 200],
  ]);
  const shown = asText(experimentDocument(report), 100);
  expect(shown).toContain('new brings more than old');
  expect(Math.max(...shown.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
});

it('compares a bundle with its canary on the row log of their servers', async () => {
  const rows = join(folder.path, 'rows');
  await mkdir(rows);
  const settings = settingsOf({ mode: 'off', feedback: { windowSeconds: 10 } });
  const lines = unitsOf((unit) => {
    const bundle = unit % 2 === 0 ? `canary${'c'.repeat(58)}` : `stable${'d'.repeat(58)}`;
    const shown = {
      ...{ adgroup: 'x', segment: null, bid: 1, probability: 0.1 },
      ...{ propensity: 1, isExploration: false },
    };
    const isClicked = unit % 20 < (bundle.startsWith('canary') ? 19 : 4);
    const id = `r${unit}`;
    return [
      rankingLine({
        ...{ id, epochMs: 2_000, bundle, shown: [shown], decision: null },
        ...{ context: { user: unit }, features: {} },
      }),
      feedbackLine([
        feedbackOn(id, 2_100),
        ...(isClicked ? [feedbackOn(id, 2_200, { reward: 1 })] : []),
      ]),
    ];
  });
  const name = `rows-000000000001000-${'a'.repeat(16)}-000001.ndjson.gz`;
  await writeFile(join(rows, name), gzipSync([rowLogHead(settings), ...lines].join('')));
  const columns = { unit: 'user' };
  const { arms } = await experiment({ logs: [rows], columns, arms: ['stable', 'canary'] });
  expect(arms).toMatchObject([
    { arm: `stable${'d'.repeat(58)}`, unitCount: 200, outcomeSum: 40, verdict: null },
    { arm: `canary${'c'.repeat(58)}`, unitCount: 200, outcomeSum: 200, verdict: 'better' },
  ]);
});

it.each([
  [{ unit: 'user', outcome: 'orders' }, {}, 'usage', 'the column of the arm is not named'],
  [
    { unit: 'user', arm: 'group', outcome: 'orders' },
    { from: '2026-12-01' },
    'usage',
    'the column of the time is not named',
  ],
  [
    { unit: 'user', arm: 'group', outcome: 'day' },
    {},
    'data',
    'a row of the test cannot be counted',
  ],
  [{ unit: 'user', arm: 'country', outcome: 'orders' }, {}, 'data', 'there is nothing to compare'],
  [
    { unit: 'user', arm: 'group', outcome: 'orders' },
    { arms: ['n', 'old'] },
    'usage',
    'no arm of the test has this name',
  ],
  [
    { unit: 'user', arm: 'group', outcome: 'orders' },
    { from: 'noon' },
    'usage',
    'the beginning of the test is no time',
  ],
] as const)('refuses %j %j', async (columns, more, kind, what) => {
  const log = await table('refused.csv', [
    'a,new,2026-12-01,1,1,NO',
    'b,newer,2026-12-01,0,1,NO',
    'c,old,2026-12-01,0,1,NO',
  ]);
  const given = 'arms' in more ? { arms: [...more.arms] } : more;
  await expectFailureOf(experiment({ logs: [log], columns, ...given }), kind, { what });
});
