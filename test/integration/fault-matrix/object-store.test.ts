/** An object store that fails below the checkpoints of a run. */

import { afterAll, beforeAll, describe, expect } from 'vitest';
import {
  expectExclusion,
  FaultScene,
  type RunDepartures,
} from '../../fixtures/faults/fault-scene.js';
import {
  s3FaultProxy,
  type S3Fault,
  type S3FaultProxy,
} from '../../fixtures/faults/s3-fault-proxy.js';
import {
  canStartS3,
  S3_SUITE_SUFFIX,
  startS3Buckets,
  type S3Buckets,
} from '../../fixtures/stores/s3-buckets.js';
import { CellsOfFile } from './cells.js';

const BUCKET = 'runs';
const MANIFEST = /\/checkpoints\/manifests\//;
const BLOB = /\/checkpoints\/blobs\//;

describe.skipIf(!canStartS3)(`an object store${S3_SUITE_SUFFIX}`, () => {
  let scene: FaultScene;
  let buckets: S3Buckets;
  beforeAll(async () => {
    buckets = await startS3Buckets();
    await buckets.makeBucket(BUCKET);
    const { credentials } = buckets.options;
    const environment = {
      AWS_ACCESS_KEY_ID: credentials?.accessKeyId ?? '',
      AWS_SECRET_ACCESS_KEY: credentials?.secretAccessKey ?? '',
    };
    scene = await FaultScene.open({ environment });
  });
  afterAll(async () => {
    await scene.close();
    await buckets.stop();
  });

  const cells = new CellsOfFile('object-store.test.ts');

  /** A run whose checkpoints go through the proxy, and a worker for it. */
  async function withProxy(
    name: string,
    act: (proxy: S3FaultProxy, departures: RunDepartures) => Promise<void>,
  ): Promise<void> {
    const proxy = await s3FaultProxy(buckets.options.endpoint);
    const worker = await scene.workerHere(name);
    const config = { output: `s3://${BUCKET}/${name}`, storage: { s3Endpoint: proxy.endpoint } };
    try {
      await act(proxy, { config });
    } finally {
      await worker.stop();
      await proxy.close();
    }
  }

  const PASSING: readonly (readonly [fault: string, phase: string, S3Fault, RegExp])[] = [
    ['S3 answers 500 twice', 'to a blob', { kind: 'refused', status: 500 }, BLOB],
    ['S3 answers 503 twice', 'to a manifest', { kind: 'refused', status: 503 }, MANIFEST],
    ['S3 loses its reply', 'to a blob', { kind: 'reply-lost' }, BLOB],
    ['S3 loses its reply', 'to a manifest', { kind: 'reply-lost' }, MANIFEST],
  ];
  for (const [fault, phase, kind, path] of PASSING)
    cells.run(fault, phase, (name) =>
      withProxy(name, async (proxy, departures) => {
        void proxy.fail({ method: 'PUT', path, times: 2 }, kind);
        await scene.expectDigest(await scene.coordinator(name, departures));
        expect(proxy.struckCount()).toBe(2);
      }),
    );

  cells.run('S3 answers 500', 'to every manifest', (name) =>
    withProxy(name, async (proxy, departures) => {
      void proxy.fail(
        { method: 'PUT', path: MANIFEST, times: 40 },
        { kind: 'refused', status: 500 },
      );
      const run = await scene.coordinator(name, departures);
      await expectExclusion(run, { exitCode: 3, message: /the object store/ });
    }),
  );

  cells.complete();
});
