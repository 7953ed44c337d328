/** The child's side of the channel: parses requests, computes them in turn, answers each once. */

import { z } from 'zod';
import { QianmoError } from '../../shared/errors.js';
import { openObjectStore, s3OptionsOf } from '../../shared/storage/open-object-store.js';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import {
  ComputeRequestSchema,
  failureRecordOf,
  type ComputeReply,
  type ComputeRequest,
} from '../compute-protocol.js';
import { createExecutor, type ExecutorOptions, type LocalExecutor } from './create-executor.js';

export interface Channel {
  readonly receive: (onMessage: (message: unknown) => void) => void;
  readonly send: (reply: ComputeReply) => void;
}

type StartRequest = Extract<ComputeRequest, { kind: 'start' }>;
type OpenStore = ExecutorOptions['openStore'];

/** @param openStoreOf where stores come from; tests put stores in memory here. */
export function serveRequests(
  { receive, send }: Channel,
  openStoreOf: (request: StartRequest) => OpenStore = openStoreOnDisk,
): void {
  let executor: LocalExecutor | null = null;

  const answer = async (message: unknown): Promise<ComputeReply> => {
    const parsed = ComputeRequestSchema.safeParse(message);
    if (!parsed.success)
      throw new QianmoError({
        kind: 'data',
        what: 'the compute process was sent a request it does not know',
        found: z.prettifyError(parsed.error),
        cure: 'rebuild, so that parent and child are of one version: npm run build',
      });
    const request = parsed.data;
    if (request.kind === 'start') {
      executor = await createExecutor({
        openStore: openStoreOf(request),
        backend: request.backend,
        warn: (text) => send({ kind: 'warning', message: text }),
      });
      return { kind: 'ready', backend: executor.backend };
    }
    if (executor === null) throw new Error('a job came before the start');
    const { requestId, job, dense, rowPack } = request;
    const output = await executor.execute({ job, dense, rowPack });
    return { kind: 'done', requestId, ...output };
  };

  let turn: Promise<void> = Promise.resolve();
  receive((message) => {
    turn = turn.then(async () => {
      try {
        send(await answer(message));
      } catch (error) {
        send({ kind: 'failed', report: failureRecordOf(error) });
      }
    });
  });
}

function openStoreOnDisk({ storeCacheByteCountMax }: StartRequest): OpenStore {
  return ({ address, digest, storage }) =>
    openTaskStore(address, {
      expectedDigest: digest,
      cacheByteCountMax: storeCacheByteCountMax,
      objectStoreOf: (object) => openObjectStore(object, s3OptionsOf(storage)),
    });
}
