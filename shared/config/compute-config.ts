/** The sections `compute` and `queue` of a run config: what computes jobs, and how they get there. */

import { z } from 'zod';
import { FingerprintSchema } from '../events/device-report.js';

const positiveInt = z.int().positive();

/** `auto`: a GPU if there is one; `gpu`: a GPU only; `cpu`: the CPU only. */
export const DeviceDemandSchema = z.enum(['auto', 'cpu', 'gpu']);
export type DeviceDemand = z.infer<typeof DeviceDemandSchema>;

/** The largest index of a GPU that can be named, counted from 0. */
export const GPU_INDEX_MAX = 1023;

export const ComputeConfigSchema = z
  .strictObject({
    device: DeviceDemandSchema.default('auto').describe(
      'The device of every worker that takes a job of this run: auto, a GPU if there is one; gpu, a GPU ' +
        'only; cpu, the CPU only.',
    ),
    portable: z
      .boolean()
      .default(false)
      .describe(
        'Compute on CPUs with one instruction set, AVX2, on every machine, so that unlike machines compute ' +
          'the same bits. Slower on machines that have AVX-512.',
      ),
    fingerprint: FingerprintSchema.optional().describe(
      'The kind of machine that computes this run, as qianmo check prints it; by default a GPU ' +
        'if a worker has one, then the kind of most workers. Workers of another kind refuse its jobs. ' +
        'A resumed run keeps its kind unless another one is named here.',
    ),
  })
  .refine(({ device, portable }) => !portable || device !== 'gpu', {
    path: ['portable'],
    error: 'portable jobs are computed on CPUs: remove device: gpu',
  })
  .describe('What the jobs of the run may be computed on.');
export type ComputeConfig = z.infer<typeof ComputeConfigSchema>;

export const QueueConfigSchema = z
  .strictObject({
    redisUrl: z
      .string()
      .regex(/^(embedded|rediss?:\/\/.+)$/, 'expected embedded or redis://host:port')
      .default('embedded')
      .describe(
        'The address of Redis, redis://host:port, with which workers compute. embedded names none: the command ' +
          'computes on its own machine unless it is given one.',
      ),
    prefix: z
      .string()
      .regex(/^\{[a-z0-9-]+\}$/, 'expected letters in braces, as in {qianmo}')
      .default('{qianmo}')
      .describe(
        'The prefix of all keys, in braces, so that Redis Cluster keeps one queue in one slot.',
      ),
    jobTimeoutMs: positiveInt
      .max(86_400_000)
      .default(120_000)
      .describe('The longest time that a job may compute.'),
    jobAttemptsMax: positiveInt
      .max(100)
      .default(5)
      .describe('Attempts at a job before the run fails.'),
    outerStepTimeoutMs: positiveInt
      .default(900_000)
      .describe(
        'The longest wait for the results of one outer step. The run then stops and can be resumed.',
      ),
    refusalWaitMs: z
      .int()
      .nonnegative()
      .max(86_400_000)
      .default(300_000)
      .describe(
        'How long a run waits while Redis refuses to write because its disk or memory is full. The run ' +
          'then stops and can be resumed.',
      ),
    blobByteCountMax: positiveInt
      .default(512 * 1024 * 1024)
      .describe('The largest blob of tensors.'),
    frozenTablesByteCountMax: z
      .int()
      .nonnegative()
      .default(256 * 1024 * 1024)
      .describe(
        'Tables that no outer step changes are sent to each worker whole, once, if they have at most this ' +
          'many bytes together.',
      ),
    joinedSumByteCountMin: z
      .int()
      .nonnegative()
      .default(8 * 1024 * 1024)
      .describe(
        'Workers add sums of gradients of this many bytes and more, so that the coordinator reads four ' +
          'of them at most, whatever the number of workers. It reads smaller ones itself, which takes less time.',
      ),
    blobLifetimeMs: positiveInt
      .default(3_600_000)
      .describe('How long a blob in Redis outlives its last use.'),
    largeBlobs: z
      .strictObject({
        address: z
          .string()
          .min(1)
          .max(900)
          .describe(
            's3://BUCKET/PREFIX (reached as storage says), or a folder that all machines see.',
          ),
        byteCountMin: positiveInt
          .default(8 * 1024 * 1024)
          .describe('Blobs of this many bytes and more lie there, smaller ones in Redis.'),
      })
      .optional()
      .describe(
        'An object store for large blobs, where Redis would be the bottleneck. Workers need access to it, and ' +
          '--store-allow with the address. By default all blobs lie in Redis.',
      ),
  })
  .describe('The queue between coordinator and workers.');
export type QueueConfig = z.infer<typeof QueueConfigSchema>;
