// Every row of the logs is in the store, rejected, or in a counted remainder, exactly once. The
// division of the logs into files changes nothing.
import { expect, test } from 'vitest';
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import { prepareRoom } from '../fixtures/stores/prepared-store.js';

// Most rows are valid, so that tasks grow beyond the caps; `rare` stays too small for a task.
const row = fc.record({
  ad: fc.constantFrom('a', 'b', 'a', 'b', 'c', 'd', ''),
  site: fc.constantFrom('x', 'y', 'x', 'y', 'z', ''),
  price: fc.constantFrom('-7', '0', '3', '8', '12', '40', '', 'much', '1e400'),
  at: fc.integer({ min: 0, max: 20 }),
  clicked: fc.constantFrom('0', '1', '1', '0', '0', '1', '2'),
});
const HEADER = 'ad,site,price,at,clicked\n';

test('rows add up, and file cuts do not matter', async () => {
  const anchor = [
    ...['a', 'a', 'b', 'b', 'rare'].map((ad, n) => ({ ad, at: n, site: 'x' })),
    { ad: 'a', at: 3, site: 'z' },
  ].map((rest) => ({ ...rest, price: '1', clicked: '1' }));
  await fc.assert(
    fc.asyncProperty(
      fc.array(row, { minLength: 20, maxLength: 80, size: 'max' }),
      fc.constantFrom('time', 'hash'),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 40 }),
      async (drawn, by, rowsMax, cut) => {
        const rows = [...drawn, ...anchor];
        const lines = rows.map((r) => `${r.ad},${r.site},${r.price},${r.at},${r.clicked}\n`);
        const room = await prepareRoom();
        try {
          await room.write('log.csv', HEADER + lines.join(''));
          await room.write('cut-1.csv', HEADER + lines.slice(0, cut).join(''));
          await room.write('cut-2.csv', HEADER + lines.slice(cut).join(''));
          const data = {
            time: 'at',
            where: "site <> 'z'",
            rowSplit: { by, supportRowsMax: rowsMax, queryRowsMax: rowsMax },
            features: [
              { name: 'site', kind: 'category' },
              { name: 'price', kind: 'number', missing: 0 },
            ],
          };
          const manifest = await room.prepare(room.config(data));
          const left = manifest.leftOut!;
          expect(
            manifest.rowCount +
              manifest.rejectedRowCount +
              left.filteredRowCount +
              left.tooSmallRowCount +
              left.cappedRowCount +
              left.unplacedRowCount,
          ).toBe(rows.length);

          const store = await openTaskStore(room.path('store'), {});
          const tasks = await store.readTasks(store.tasks.map((task) => task.taskIndex));
          const seen = new Set<number>();
          for (const task of tasks) {
            const key = store.tasks[task.taskIndex]!.key;
            for (const [n, logRow] of [...task.logRows].entries()) {
              expect(seen.has(logRow)).toBe(false);
              seen.add(logRow);
              expect(rows[logRow]!.ad).toBe(key);
              expect(task.clicks[n]).toBe(Number(rows[logRow]!.clicked));
            }
            const times = [...task.logRows].map((logRow) => rows[logRow]!.at);
            for (let n = 1; n < times.length; n += 1)
              if (n !== task.supportRowCount)
                expect(times[n]!).toBeGreaterThanOrEqual(times[n - 1]!);
            if (by === 'time')
              expect(times[task.supportRowCount]!).toBeGreaterThanOrEqual(
                times[task.supportRowCount - 1]!,
              );
          }
          await store.close();
          const rejects = (await readFile(room.path('store/rejects.jsonl'), 'utf8')).trim();
          for (const line of rejects === '' ? [] : rejects.split('\n')) {
            const reject = JSON.parse(line) as { row: number; line: number };
            expect(seen.has(reject.row)).toBe(false);
            expect(reject.line).toBe(reject.row + 2);
          }

          const cutData = { ...data, logs: room.path('cut-*.csv'), store: room.path('cut') };
          const cutManifest = await room.prepare(room.config(cutData));
          const content = (files: typeof manifest.files) =>
            files.filter((file) => file.name !== 'rejects.jsonl');
          expect(content(cutManifest.files)).toEqual(content(manifest.files));
        } finally {
          await room.remove();
        }
      },
    ),
    { numRuns: 4 },
  );
});
