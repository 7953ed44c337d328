/** Row files are cut by their rows alone, never by how fast the disk accepts them. */

import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { RowColumns, writeRowFiles } from '../../../coordinator/prepare/row-file-writer.js';
import { computedRows } from '../../fixtures/stores/computed-rows.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder.remove());

const ROWS_PER_BATCH = 200_000;
const BATCH_COUNT = 24;
// row 8, role 1, time 8, clicks 4, impressions 4, one category 4
const BYTES_PER_ROW = 29;
const BATCHES_PER_FILE = 5;

it('every file but the last holds as many batches as reach the bound', async () => {
  const columns = new RowColumns(['float', 'float', 'int']);
  const number = computedRows((row) => row);
  const one = computedRows(() => 1);
  columns.append({ row: number, time: number, values: [one, one, number] }, 0, ROWS_PER_BATCH);
  columns.setRolesFrom(0, ROWS_PER_BATCH);
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  const places: string[] = [];
  const fileByteCountMax = BATCHES_PER_FILE * ROWS_PER_BATCH * BYTES_PER_ROW;
  const { files } = await writeRowFiles(
    folder.path,
    [{ name: 'site', kind: 'category', rowCount: 9, encoding: { by: 'dictionary' } }],
    { hasOracle: false, fileByteCountMax },
    async (writer) => {
  for (let batch = 0; batch < BATCH_COUNT; batch += 1) {
    const { fileIndex, batchIndex } = writer.nextPlace();
    places.push(`${fileIndex}/${batchIndex}`);
    await writer.write(columns);
  }
    },
  );
  process.off('warning', onWarning);
  // No listener is left from waiting for the disk.
  expect(warnings).toEqual([]);
  expect(places).toEqual(
    places.map((_, n) => `${Math.floor(n / BATCHES_PER_FILE)}/${n % BATCHES_PER_FILE}`),
  );
  expect(files.map(({ name }) => name)).toEqual((await readdir(folder.path)).sort());
  // Equal batches give files of equal size.
  expect(new Set(files.slice(0, -1).map(({ sha256 }) => sha256)).size).toBe(1);
});
