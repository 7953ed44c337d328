/** Works on the queue until stopped: a worker in this process, over a compute process of its own. */

import { hostname } from 'node:os';
import { resolve } from 'node:path';
import type { z } from 'zod';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import { isInterruption } from '../../shared/base/errors.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { createEventLog, logFilePlace } from '../../shared/events/event-log.js';
import {
  runEventSink,
  type RunEventSink,
  sinksTogether,
  toldBy,
} from '../../shared/events/run-events.js';
import { bullmqJobQueue } from '../../shared/queue/bullmq-job-queue.js';
import { queueWithLargeBlobs } from '../../shared/queue/large-blobs.js';
import { signedJobQueue, signingKeyOf } from '../../shared/queue/signed-job-queue.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import { jobLimitsOf, listedIn } from '../../worker/carrying/job-limits.js';
import { runWorker } from '../../worker/carrying/work-loop.js';
import type { WorkRequestSchema } from './requests.js';
import { startComputeProcess, type LocalWork } from './local-machine.js';

/** Runs until the signal aborts, then resolves. */
export async function workUntilStopped(
  request: z.output<typeof WorkRequestSchema>,
  { portable, stores, endpoints }: Pick<LocalWork, 'portable' | 'stores' | 'endpoints'>,
  context: RunContext,
): Promise<void> {
  const { signal, clock, environment } = context;
  const { redis: redisUrl } = request;
  const [key, tls] = await Promise.all([signingKeyOf(environment), tlsFilesOf(environment)]);
  const name = request.name ?? `${hostname()}-${process.pid}`;
  const kept = request.log === undefined ? context.sink : keptIn(request.log, context);
  const sink = toldBy({ worker: name }, kept);
  const started = startComputeProcess({ ...request, portable }, { ...context, sink });
  const executor = await started.catch((error: unknown) => {
    if (signal.aborted && isInterruption(error)) return null;
    throw error;
  });
  if (executor === null) return;
  await runWorker({
    queue: queueWithLargeBlobs(
      signedJobQueue(bullmqJobQueue({ redisUrl, prefix: request.prefix, clock, tls }), key),
    ),
    nonce: freshNonce(),
    name,
    device: request.device,
    clock,
    executor,
    signal,
    onEvent: sink,
    limits: jobLimitsOf({
      stores: [...stores, ...listedIn(request.storeAllow)],
      endpoints: [...endpoints, ...listedIn(request.endpointAllow)],
      workingFolder: resolve('.'),
      environment,
    }),
  });
}

/** Passes events on to the context, and keeps them in a file until the context has closed. */
function keptIn(file: string, { clock, sink, onClose }: RunContext): RunEventSink {
  const log = createEventLog({ place: logFilePlace(file), clock, onFailure: sink });
  onClose(() => log.close());
  return sinksTogether(sink, runEventSink({ clock }, log.sink));
}
