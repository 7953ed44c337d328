/** The page of the fault matrix: each row is tested where it says. A cell that the page lacks is refused by `cell`. */

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const ROW = /^\| ([^|]+) \| ([^|]+) \| [^|]+ \| `([^`]+)` \|$/gm;
const rows = [...readFileSync('infra/docs/fault-matrix.md', 'utf8').matchAll(ROW)].map((row) =>
  row.slice(1),
);

/** Parts of the titles of tests outside of this folder, by the fault. */
const TITLES: Readonly<Record<string, string>> = {
  'all workers killed': 'when the workers are killed in the middle of a job',
  'coordinator killed': 'when the coordinator is killed and the run resumed',
  'Redis restarted, then killed': 'when Redis loses everything, restarts, and is killed',
  'Redis loses everything': 'when Redis loses everything, restarts, and is killed',
  'Ctrl-C': 'when Ctrl-C stops the run and it is resumed',
  'blobs in Redis cut short or changed': 'whose blobs were cut short or changed',
  'disk of the coordinator full': 'train with %i bytes of space',
  'disk of a worker full': 'one sick worker beside three healthy ones, when it %s,',
  'second coordinator': 'a second one on the same Redis stops at once and harms nothing',
  'job that kills its workers': 'costs no more workers than it has attempts',
  'joining worker killed': 'have them when a worker is killed that has taken a join',
  'sums lost by Redis': 'have them when the store loses sums, which are computed again',
  'copy of the store damaged': 'the run goes on with the other worker',
};

test('the page has enough rows, each once', () => {
  expect(new Set(rows.map((row) => row.join())).size).toBe(rows.length);
  expect(rows.length).toBeGreaterThan(60);
});

test.each(rows)('%s, %s', (fault = '', phase = '', file = '') => {
  const text = readFileSync(`test/integration/${file}`, 'utf8');
  const isCell = file.startsWith('fault-matrix/');
  for (const part of isCell ? [fault, phase] : [TITLES[fault] ?? `no title of ${fault}`])
    expect(text).toContain(part);
});
