/** The chunks of a query's rows: the next one is fetched ahead, and rows that are missing are an error. */

import { QianmoError } from '../../shared/base/errors.js';
import { counted } from '../../shared/names/counted.js';

/**
 * The chunks in their order, of which the next one is fetched while one is used.
 *
 * @param fetchNext returns null or an empty chunk after the last
 * @returns the number of rows
 */
export async function* chunksAhead<Chunk extends { readonly rowCount: number }>(
  fetchNext: () => Promise<Chunk | null>,
): AsyncGenerator<Chunk, number> {
  let rowCount = 0;
  let next = fetchNext();
  try {
    for (;;) {
      const chunk = await next;
      if (chunk === null || chunk.rowCount === 0) return rowCount;
      rowCount += chunk.rowCount;
      next = fetchNext();
      // It is awaited after the chunk has been used, and fails there.
      next.catch(() => undefined);
      yield chunk;
    }
  } finally {
    // The session may be closed after this, and must not be in use.
    await next.catch(() => undefined);
  }
}

/** The error of rows that end early. DuckDB's client returns an empty chunk at the end and after a failure alike. */
export function rowsLost(folder: string, expected: number, found: number): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: 'DuckDB stopped in the middle of its rows',
    where: folder,
    expected: counted(expected, 'row'),
    found: counted(found, 'row'),
    cure: 'look whether the disk of that folder is full or broken (TMPDIR names another one), and run the command again',
  });
}
