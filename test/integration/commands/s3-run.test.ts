/**
 * A whole run whose logs, task store, checkpoints and reports are in a bucket of a real S3 server.
 * Its worker is started elsewhere and knows only the queue.
 */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { S3ObjectStore } from '../../../shared/storage/s3-object-store.js';
import { commandRoom, EXPORT_EVALUATION } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { canStartS3, S3_SUITE_SUFFIX, startS3Buckets } from '../../fixtures/stores/s3-buckets.js';
import { smallLog, smallRun } from '../../fixtures/commands/small-run.js';
import { sha256Of } from '../../../shared/tensors/sha256.js';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import type { EventKind } from '../../../shared/events/run-events.js';

const BUCKET = 'adgroups';
const LEFTOVER_OF_REMOTE = `blobs/${sha256Of(Buffer.from('remote')).slice(0, 32)}/blobs/${'a'.repeat(64)}`;

describe.skipIf(!canStartS3)(`a run on S3${S3_SUITE_SUFFIX}`, () => {
  const room = openedOnce(commandRoom);
  const redis = openedOnce(redisForTest);
  const buckets = openedOnce(startS3Buckets);
  let bucket: S3ObjectStore;

  beforeAll(async () => {
    await buckets.makeBucket(BUCKET);
    bucket = new S3ObjectStore({ ...buckets.options, bucket: BUCKET, prefix: '' });
    const { credentials } = buckets.options;
    vi.stubEnv('AWS_ACCESS_KEY_ID', credentials?.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', credentials?.secretAccessKey);
  });

  afterAll(() => vi.unstubAllEnvs());

  async function runFile(name: string, onS3: boolean, training: object = {}): Promise<string> {
    const run = smallRun(name, 8);
    const place = (key: string): string => (onS3 ? `s3://${BUCKET}/${key}` : key);
    const data = { ...run.data, logs: place('log.csv'), store: place('store') };
    const storage = { s3Endpoint: buckets.options.endpoint };
    return room.config(name, (config) => {
      Object.assign(config, run, { data, storage, output: place(name) });
      config['evaluation'] = EXPORT_EVALUATION;
      Object.assign(config, { training: { ...run.training, ...training } });
    });
  }

  /** A run in the bucket whose table of users is two pieces, 11 MB. */
  async function largeRunFile(name: string, training: object = {}): Promise<string> {
    const path = await runFile(name, true, training);
    const run = JSON.parse(await readFile(path, 'utf8')) as ReturnType<typeof smallRun>;
    const features = run.data.features.map((feature) =>
      feature.name === 'user' ? { ...feature, hashBuckets: 300_000 } : feature,
    );
    const data = { ...run.data, features, store: `s3://${BUCKET}/large-store` };
    const model = { ...run.model, embeddingWidth: 8 };
    await room.write(path, JSON.stringify({ ...run, data, model }));
    return path;
  }

  const digestIn = (output: string): string => {
    const digest = /digest ([0-9a-f]{64})/.exec(output)?.[1];
    if (digest === undefined) throw new Error(`no digest in ${output}`);
    return digest;
  };

  /** The run in the bucket has its large blobs there, where an earlier start left one. */
  async function withLargeBlobs(path: string): Promise<string> {
    const run = JSON.parse(await readFile(path, 'utf8')) as ReturnType<typeof smallRun>;
    const largeBlobs = { address: `s3://${BUCKET}/blobs`, byteCountMin: 1 };
    await room.write(path, JSON.stringify({ ...run, queue: { ...run.queue, largeBlobs } }));
    return path;
  }

  it('prepares, trains and evaluates in a bucket, with the digest of a local run', async () => {
    await bucket.put('log.csv', Buffer.from(smallLog()), { kind: 'always' });
    const local = await runFile('local', false);
    await room.done(['prepare', local]);
    const localDigest = digestIn(await room.done(['train', local]));

    const remote = await withLargeBlobs(await runFile('remote', true));
    await room.done(['prepare', remote]);
    const worker = room.start([
      ...['worker', '--redis', redis.url, '--prefix', '{remote}', '--log', 'worker.ndjson'],
      ...['--store-allow', `s3://${BUCKET}/store,s3://${BUCKET}/blobs`],
      ...['--endpoint-allow', buckets.options.endpoint],
    ]);
    await bucket.put(LEFTOVER_OF_REMOTE, Buffer.from('left by a start that was killed'), {
      kind: 'always',
    });
    const trained = await room.done(['train', remote, '--redis', redis.url]);
    expect(digestIn(trained)).toBe(localDigest);
    expect(await bucket.list('blobs/')).toEqual([]);
    const evaluated = await room.done(['evaluate', remote, '--redis', redis.url]);
    expect(evaluated).toContain('meta-adapted');
    expect(await bucket.list('remote/')).toEqual(
      expect.arrayContaining(['remote/evaluation.json', 'remote/report.html']),
    );
    const log = await bucket.get('remote/events/events-000001.ndjson');
    const kindsIn = (lines: string): EventKind[] =>
      lines
        .trimEnd()
        .split('\n')
        .map((line) => parseEventLine(line).kind);
    const kinds = kindsIn(Buffer.from(log?.bytes ?? []).toString('utf8'));
    expect(kinds).toContain('store-prepared');
    expect(kinds.filter((kind) => kind === 'outer-step').length).toBeGreaterThanOrEqual(8);
    expect(kinds).toContain('run-finished');
    const told = kinds.filter((kind) => kind !== 'workers-wanted');
    expect(told.slice(-2)).toEqual(['report-written', 'call-ended']);
    worker.signal('SIGTERM');
    expect((await worker.ended).exitCode).toBe(0);
    const ofWorker = kindsIn(await readFile(room.path('worker.ndjson'), 'utf8'));
    expect(ofWorker).toContain('job-finished');
    expect(ofWorker.slice(-2)).toEqual(['worker-stopped', 'compute-ended']);
  });

  it('has a table of several pieces in a bucket, with the same digest after a resume and in a run that starts there', async () => {
    await bucket.put('log.csv', Buffer.from(smallLog()), { kind: 'always' });
    const flat = await largeRunFile('flat');
    await room.done(['prepare', flat]);
    const expected = digestIn(await room.done(['train', flat]));
    expect((await bucket.list('flat/checkpoints/blobs/')).length).toBeGreaterThan(3);

    const often = { checkpointEveryOuterSteps: 2 };
    const stoppedRun = await largeRunFile('stopped', often);
    const running = room.start(['train', stoppedRun]);
    await running.saw(/checkpoint of outer step 2\b/);
    running.signal('SIGINT');
    const stopped = await running.ended;
    expect([0, 4], stopped.diagnostics).toContain(stopped.exitCode);
    expect(digestIn(await room.done(['train', stoppedRun, '--resume']))).toBe(expected);

    const still = { kind: 'sgd', rate: 1e-60 };
    const following = { ...often, startFrom: `s3://${BUCKET}/stopped`, optimizer: still };
    const after = await room.done(['train', await largeRunFile('after', following)]);
    expect(digestIn(after)).toBe(expected);
  });
});
