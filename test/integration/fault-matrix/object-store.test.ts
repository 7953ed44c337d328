/** An object store that fails below the checkpoints of a run. */

import { afterAll, beforeAll, describe, expect, vi } from 'vitest';
import {
  endWith,
  expectExclusion,
  cell,
  FaultScene,
  type RunDepartures,
} from '../../fixtures/faults/fault-scene.js';
import {
  s3FaultProxy,
  type S3Fault,
  type S3FaultProxy,
} from '../../fixtures/faults/s3-fault-proxy.js';
import { heldJob } from '../../fixtures/faults/held-job.js';
import { canMountDisks, smallDisk } from '../../fixtures/faults/small-disk.js';
import { ObjectLease } from '../../../shared/storage/lease.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { S3ObjectStore } from '../../../shared/storage/s3-object-store.js';
import { openedOnce } from '../../fixtures/opened.js';
import { canStartS3, S3_SUITE_SUFFIX, startS3Buckets } from '../../fixtures/stores/s3-buckets.js';

const BUCKET = 'runs';
const MANIFEST = /\/checkpoints\/manifests\//;
/** The first checkpoint is written before it. */
const STEP_AFTER_CHECKPOINT = 2;
const SDK_ATTEMPT_COUNT = 4;
/** Enough for an outer step. */
const SHORT_WAIT_MS = 10_000;
const SMALL_DISK_BYTE_COUNT = 64 * 1024;
const BLOB = /\/checkpoints\/blobs\//;

describe.skipIf(!canStartS3)(`an object store${S3_SUITE_SUFFIX}`, () => {
  let scene: FaultScene;
  const buckets = openedOnce(startS3Buckets);
  beforeAll(async () => {
    await buckets.makeBucket(BUCKET);
    const { credentials } = buckets.options;
    vi.stubEnv('AWS_ACCESS_KEY_ID', credentials?.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', credentials?.secretAccessKey);
    scene = await FaultScene.open();
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await scene.close();
  });

  function departuresOf(name: string, { endpoint }: S3FaultProxy): RunDepartures {
    return { config: { output: `s3://${BUCKET}/${name}`, storage: { s3Endpoint: endpoint } } };
  }

  async function s3Proxy(name: string): Promise<S3FaultProxy> {
    const proxy = await s3FaultProxy(buckets.options.endpoint);
    endWith(name, () => proxy.close());
    return proxy;
  }

  /** A run whose checkpoints go through the proxy, and a worker for it. */
  async function withProxy(
    name: string,
    act: (proxy: S3FaultProxy, departures: RunDepartures) => Promise<void>,
  ): Promise<void> {
    const proxy = await s3Proxy(name);
    await scene.workerHere(name);
    await act(proxy, departuresOf(name, proxy));
  }

  const PASSING: readonly (readonly [fault: string, phase: string, S3Fault, RegExp])[] = [
    ['S3 answers 500 twice', 'to a blob', { kind: 'refused', status: 500 }, BLOB],
    ['S3 answers 503 twice', 'to a manifest', { kind: 'refused', status: 503 }, MANIFEST],
    ['S3 loses its reply', 'to a blob', { kind: 'reply-lost' }, BLOB],
    ['S3 loses its reply', 'to a manifest', { kind: 'reply-lost' }, MANIFEST],
  ];
  for (const [fault, phase, kind, path] of PASSING)
    cell(fault, phase, (name) =>
      withProxy(name, async (proxy, departures) => {
        void proxy.fail({ method: 'PUT', path, times: 2 }, kind);
        await scene.expectDigest(await scene.coordinatorHere(name, departures));
        expect(proxy.struckCount()).toBe(2);
      }),
    );

  cell('S3 answers 500', 'to a manifest, longer than the SDK tries', (name) =>
    withProxy(name, async (proxy, departures) => {
      const times = 3 * SDK_ATTEMPT_COUNT;
      void proxy.fail({ method: 'PUT', path: MANIFEST, times }, { kind: 'refused', status: 500 });
      const run = await scene.coordinatorHere(name, departures);
      await run.saw(/the object store at \S+ fails \(\w+ \(HTTP 500\)\); waiting for it/);
      await run.saw(/the object store is back after/);
      await scene.expectDigest(run);
      expect(proxy.struckCount()).toBe(times);
    }),
  );

  cell('S3 answers 500', 'to every manifest', (name) =>
    withProxy(name, async (proxy, departures) => {
      void proxy.fail({ method: 'PUT', path: MANIFEST }, { kind: 'refused', status: 500 });
      const queue = { outerStepTimeoutMs: SHORT_WAIT_MS };
      const run = await scene.coordinatorHere(name, { ...departures, queue });
      await expectExclusion(run, { exitCode: 3, message: /the object store/ });
    }),
  );

  const READING: readonly (readonly [fault: string, S3Fault])[] = [
    ['S3 slow', { kind: 'slow' }],
    ['S3 truncates its answers', { kind: 'truncated' }],
  ];
  for (const [fault, kind] of READING)
    cell(fault, 'on a resume', async (name) => {
      const proxy = await s3Proxy(name);
      const departures = departuresOf(name, proxy);
      const { executor, held, release } = heldJob(scene.executor, 1, STEP_AFTER_CHECKPOINT);
      const worker = await scene.workerHere(name, { executor });
      const run = await scene.coordinator(name, departures);
      await held;
      await run.saw(/checkpoint of outer step 2\b/);
      run.signal('SIGKILL');
      await run.ended;
      release();
      await worker.stop();
      void proxy.fail({ method: 'GET', path: BLOB, times: 2 }, kind);
      await scene.expectDigestOnResume(name, departures);
      expect(proxy.struckCount()).toBe(2);
    });

  cell('race for a run on S3', 'lost while a checkpoint is sent', (name) =>
    withProxy(name, async (proxy, departures) => {
      const held = proxy.fail({ method: 'PUT', path: MANIFEST, times: 1 }, { kind: 'held' });
      const run = await scene.coordinatorHere(name, departures);
      await held;
      await takeOver(name);
      proxy.release();
      await expectExclusion(run, {
        exitCode: 6,
        message: /another coordinator has taken over this run/,
      });
    }),
  );

  /** Does what another coordinator does that thinks that the first one is dead. */
  async function takeOver(name: string): Promise<void> {
    const store = new S3ObjectStore({
      ...buckets.options,
      ...{ bucket: BUCKET, prefix: `${name}/checkpoints` },
    });
    const lease = new ObjectLease({ store, key: 'coordinator.json', run: name });
    const other = { start: 'other', process: thisProcess(), sinceMs: 0, beatMs: 0 };
    let answer = await lease.take(other, null);
    // The holder may say that it lives in between, which changes the mark.
    while (answer.kind === 'held') answer = await lease.take(other, answer.mark);
  }

  cell(
    'disk of a worker full',
    'when it fetches the store from S3',
    async (name) => {
      const { endpoint } = buckets.options;
      const store = `s3://${BUCKET}/${name}-store`;
      const departures: RunDepartures = {
        config: { storage: { s3Endpoint: endpoint } },
        data: { store },
      };
      await scene.prepare(name, departures);
      const disk = smallDisk(SMALL_DISK_BYTE_COUNT);
      await disk.fill(0);
      const access = { QIANMO_STORE_ALLOW: store, QIANMO_ENDPOINT_ALLOW: endpoint };
      const full = scene.worker(name, { environment: { ...access, TMPDIR: disk.folder } });
      await full.printed(/"kind":"worker-ready"/);
      const run = await scene.coordinatorHere(name, departures);
      await run.saw(/refuses the jobs of this run.*the disk is full/);
      const healthy = scene.worker(name, { environment: access });
      await scene.expectDigest(run);
      for (const worker of [full, healthy]) {
        worker.signal('SIGTERM');
        await worker.ended;
      }
      disk.close();
    },
    canMountDisks ? null : 'no file system can be mounted here',
  );
});
