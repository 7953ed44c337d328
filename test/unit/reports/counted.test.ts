/** Counts with their nouns where there is one of a thing. Seen to fail: nouns that are always plural. */

import { expect, test } from 'vitest';
import { storeLines } from '../../../infra/library/result-texts.js';
import { counted } from '../../../shared/names/counted.js';
import { STORE_FORMAT_VERSION, type StoreManifest } from '../../../shared/tasks/store-manifest.js';

test('a noun is plural but for one', () => {
  expect([0, 1, 2].map((count) => counted(count, 'row'))).toEqual(['0 rows', '1 row', '2 rows']);
  expect(counted(1200, 'row', '1,200')).toBe('1,200 rows');
});

test('the lines of a prepared store name one row and one task as such', () => {
  const leftOut = { filteredRowCount: 1, tooSmallTaskCount: 1, tooSmallRowCount: 1 };
  const manifest: StoreManifest = {
    ...{ formatVersion: STORE_FORMAT_VERSION, sourceDigest: '', features: [], files: [] },
    ...{ taskColumns: ['adgroup'], hasOracle: false, rejectedRowCount: 0 },
    ...{ taskCount: 3, taskCountBySplit: { train: 1, validation: 1, test: 1 }, rowCount: 2001 },
    trunk: { batchCount: 1, rowCount: 1, smallTaskCount: 1, smallTaskRowCount: 1 },
    leftOut: { ...leftOut, cappedRowCount: 1200, unplacedRowCount: 0 },
  };
  const lines = storeLines({ store: 'runs/store', manifest });
  expect(lines).toContain('left out: 1 row for which data.where is not true');
  expect(lines).toContain('left out: 1 row of 1 task below supportRowsMin or queryRowsMin');
  expect(lines).toContain('left out: 1,200 rows beyond');
  expect(lines).toContain('1 of them those of 1 small task\n');
});
