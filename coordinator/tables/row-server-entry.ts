/** The process of a row server. It answers the coordinator that forked it, and ends with the channel. */

import { parseArgs } from 'node:util';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { loadNativeRows } from '../../shared/tensors/native-rows.js';
import { RowHost } from './row-host.js';
import {
  failedReply,
  RowServerRequestSchema,
  type RowServerReply,
  type RowServerRequest,
} from './row-server-protocol.js';

const { values } = parseArgs({ options: { 'native-rows': { type: 'string' } } });
if (values['native-rows'] !== undefined) loadNativeRows(values['native-rows']);

let host: RowHost | null = null;

// Signals that stop a command may reach every process of its terminal. The coordinator still needs its rows for the last checkpoint.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit(0));
process.on('message', (message) => {
  const request = RowServerRequestSchema.parse(message);
  void answer(request)
    .catch((error: unknown) => failedReply(request.requestId, error))
    // Nobody hears an answer after the coordinator has ended.
    .then((reply) => process.send?.(reply, () => undefined));
});

/** Calls take effect when they arrive, in their order. */
async function answer(request: RowServerRequest): Promise<RowServerReply> {
  const { requestId } = request;
  if (request.call === 'start') {
    const { address, storage } = request.checkpoints;
    const openStore = (at: string): ObjectStore => openObjectStore(at, s3OptionsOf(storage));
    host = new RowHost(request.plan, openStore(address), openStore);
    return { kind: 'done', requestId };
  }
  if (host === null) throw new Error('the first request starts the server');
  switch (request.call) {
    case 'fresh':
      await host.fresh(request.seed, request.from);
      break;
    case 'load':
      await host.load(request.checkpoint);
      break;
    case 'gather':
      return { kind: 'rows', requestId, rows: await host.gather(request.ids) };
    case 'step':
      await host.step(request.step);
      break;
    case 'freeze':
      await host.freeze();
      break;
    case 'storePiece':
      return {
        ...{ kind: 'piece', requestId },
        ...(await host.storePiece(request.place, request.demand)),
      };
  }
  return { kind: 'done', requestId };
}
