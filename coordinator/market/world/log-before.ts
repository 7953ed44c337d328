/** The log of the days before the market: what models learn from. */

import { QianmoError } from '../../../shared/base/errors.js';
import { adgroupTexts, CSV_COLUMNS, CsvRowWriter } from '../../synthesize/csv-rows.js';
import { writeAll, writeWhole } from '../../synthesize/log-file.js';
import { trafficTimeOfDay } from '../../synthesize/traffic.js';
import type { MarketWorld } from './market-world.js';

/** Parts of a day that are generated at once. */
const STRETCHES_PER_DAY = 4;

/**
 * Writes the rows before the market, in order of time, to a CSV file.
 *
 * @returns the number of rows
 * @throws QianmoError of kind `interrupted`; there is then no file.
 */
export async function writeLogBefore(
  { world, intercept }: Pick<MarketWorld, 'world' | 'intercept'>,
  { path, days }: { readonly path: string; readonly days: number },
  signal: AbortSignal,
): Promise<number> {
  const writer = new CsvRowWriter({ world, intercept, texts: adgroupTexts(world.adgroups) });
  let rowCount = 0;
  await writeWhole(
    path,
    async (file) => {
      await writeAll(file, Buffer.from(`${CSV_COLUMNS.join(',')}\n`));
      for (let stretch = 0; stretch < days * STRETCHES_PER_DAY; stretch += 1) {
        if (signal.aborted) throw interruption(path);
        const [from, until] = [stretch, stretch + 1].map((end) =>
          trafficTimeOfDay(end / STRETCHES_PER_DAY),
        );
        const rows = writer.rowsBetween(from ?? 0, until ?? 0);
        await writeAll(file, rows.bytes);
        rowCount += rows.rowCount;
      }
    },
    path,
  );
  return rowCount;
}

function interruption(path: string): QianmoError {
  return new QianmoError({
    kind: 'interrupted',
    what: 'stopped before the log of the days before the market was complete',
    where: path,
    cure: 'run the same command again',
  });
}
