/** How the columns of delimited logs are kept. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { openDuckSession, type DuckSession } from '../../../coordinator/logs/duckdb-session.js';
import { findLogFiles } from '../../../coordinator/logs/log-files.js';
import { readRawLogs } from '../../../coordinator/logs/log-reading.js';
import { prepareRoom, type PrepareRoom } from '../../fixtures/stores/prepared-store.js';

let room: PrepareRoom;
let session: DuckSession;
beforeAll(async () => {
  room = await prepareRoom();
  session = await openDuckSession(room.folder, 512, new AbortController().signal);
});
afterAll(async () => {
  session.close();
  await room.remove();
});

test('the first file with rows suggests the types, not one that has a header alone', async () => {
  const logs = [
    await room.write('day-1.csv', 'ad,price,note\n'),
    await room.write('day-2.csv', 'ad,price,note\n7,0.5,7\n8,1,8\n'),
  ];
  const objectStoreOf = (address: string): never => {
    throw new Error(`no object store in this test: ${address}`);
  };
  const files = await findLogFiles(
    { logs, format: 'auto' },
    { session, objectStoreOf, temporaryFolder: room.folder },
  );
  const uses = [
    { name: 'ad', configPath: 'data.task', needs: 'text' },
    { name: 'price', configPath: 'data.features.0.column', needs: 'number' },
    { name: 'note', configPath: 'data.where' },
  ] as const;
  const { columns, rowCount } = await readRawLogs(files, uses, session, () => undefined);
  expect(rowCount).toBe(2);
  expect(columns.map(({ keptAs }) => keptAs)).toEqual(['INTEGER', 'DOUBLE', 'VARCHAR']);
});
