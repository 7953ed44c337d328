// Which columns of a log are proposed as features.
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { openDuckSession } from '../../../coordinator/logs/duckdb-session.js';
import { proposeData } from '../../../coordinator/propose/propose-data.js';
import { openedOnce } from '../../fixtures/opened.js';

const session = openedOnce(() => openDuckSession(tmpdir(), 256, new AbortController().signal));

const ROWS = Array.from({ length: 240 }, (_, row) => ({ film: row % 24, row }));

const column = (name: string, of: (each: { film: number; row: number }) => unknown) => ({
  ...{ name, type: null },
  values: ROWS.map((each) => String(of(each))),
});

test('a text that only names the adgroup is left out, and a number or a shared text is not', async () => {
  const { task, features, leftOut, nameColumn } = await proposeData(
    [
      column('movieId', ({ film }) => 100 + film),
      column('title', ({ film }) => `Film ${film}`),
      column('studio', ({ film }) => `Studio ${film % 5}`),
      column('price', ({ film }) => 5 + film / 8),
      column('clicked', ({ row }) => (row % 7 === 0 ? 1 : 0)),
    ],
    {},
    session,
  );
  expect(task.value).toBe('movieId');
  expect(features.map(({ value }) => value.name)).toEqual(['studio', 'price']);
  expect(leftOut.map((each) => each.column)).toEqual(['title']);
  expect(nameColumn).toBe('title');
  expect(leftOut[0]?.reason).toMatch(/another name/);
});
