/** A truncated compressed log is refused; DuckDB would silently read the part that is left. */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, expect, it } from 'vitest';
import { requireWholeFile } from '../../../coordinator/logs/log-reading.js';
import { withDuckDb } from '../../fixtures/duckdb-for-test.js';
import { openedOnce } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const folder = openedOnce(temporaryFolder);
/** The log has several blocks, so that a cut can fall between two. */
let zstd: Uint8Array;
const TEXT = Array.from({ length: 60_000 }, (_, n) => `${n},${n * n}`).join('\n');
const SKIPPABLE = Buffer.from([0x53, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);

beforeAll(async () => {
  const path = join(folder.path, 'rows.csv.zst');
  await withDuckDb((connection) =>
    connection.run(
      `COPY (SELECT i, hash(i) FROM range(100000) r(i)) TO '${path}' (FORMAT csv, COMPRESSION zstd)`,
    ),
  );
  zstd = await readFile(path);
});

async function whole(name: string, bytes: Uint8Array): Promise<void> {
  const path = join(folder.path, `copy-of-${name}`);
  await writeFile(path, bytes);
  await requireWholeFile({ path, name });
}

it.each<[string, () => Uint8Array]>([
  ['log.csv.gz', () => gzipSync(TEXT)],
  ['two-members.csv.gz', () => Buffer.concat([gzipSync(TEXT), gzipSync(TEXT)])],
  ['log.csv.zst', () => zstd],
  ['two-frames.csv.zst', () => Buffer.concat([zstd, SKIPPABLE, zstd])],
  ['plain.csv', () => Buffer.from(TEXT)],
  ['no-frame-at-all.csv.zst', () => Buffer.from(TEXT)],
])('a whole file is accepted: %s', async (name, bytes) => {
  await whole(name, bytes());
});

it.each([1, 9, 1000, 100_000])(
  'a truncated file is refused when %i bytes are missing',
  async (missing) => {
    for (const [name, bytes] of [
      ['log.csv.gz', gzipSync(TEXT)],
      ['log.csv.zst', zstd],
      ['second-frame.csv.zst', Buffer.concat([zstd, zstd])],
    ] as const) {
      expect(bytes.length).toBeGreaterThan(missing);
      await expectFailureOf(whole(name, bytes.subarray(0, -missing)), 'data', {
        what: 'a log file is cut short',
        where: name,
      });
    }
  },
);

it('a gzip file with a changed byte fails its checksum', async () => {
  const bytes = gzipSync(TEXT);
  bytes[bytes.length - 6] = 1 + (bytes[bytes.length - 6] ?? 0);
  await expect(whole('log.csv.gz', bytes)).rejects.toMatchObject({ kind: 'data' });
});
