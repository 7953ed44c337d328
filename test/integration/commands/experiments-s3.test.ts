/**
 * `qianmo sweep` and `qianmo compare` with their configs and all output in a
 * bucket of a real S3 server, and a run that starts from one there. Seen to fail: eliminated trials
 * that stay, a sweep that does not access its output as the base config says, a verb that looks for
 * its config only in the folder.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ComparisonReportSchema } from '../../../coordinator/scoring/compare-runs.js';
import { SweepRecordSchema } from '../../../coordinator/sweep/sweep-record.js';
import { S3ObjectStore } from '../../../shared/storage/s3-object-store.js';
import { smallRun } from '../../fixtures/commands/small-run.js';
import {
  commandRoom,
  type CommandRoom,
  type ExpectedFailure,
} from '../../fixtures/commands/command-room.js';
import {
  canStartS3,
  S3_SUITE_SUFFIX,
  startS3Buckets,
  type S3Buckets,
} from '../../fixtures/stores/s3-buckets.js';

const BUCKET = 'experiments';
const SWEEP = `s3://${BUCKET}/sweep`;
const BEST = `${SWEEP}/best.yaml`;

describe.skipIf(!canStartS3)(`experiments on S3${S3_SUITE_SUFFIX}`, () => {
  let room: CommandRoom;
  let buckets: S3Buckets;
  let bucket: S3ObjectStore;
  let credentials: Record<string, string>;
  /** For addresses without a config next to them. */
  let endpointToo: Record<string, string>;
  /** The location of the best trial, and the digest of its parameters. */
  let best: { readonly output: string; readonly digest: string };

  const done = (...args: string[]): Promise<string> => room.done(args, endpointToo);
  const put = async (key: string, content: unknown): Promise<string> => {
    await bucket.put(key, Buffer.from(JSON.stringify(content)), { kind: 'always' });
    return `s3://${BUCKET}/${key}`;
  };
  const textOf = async (key: string): Promise<string> =>
    Buffer.from((await bucket.get(key))?.bytes ?? []).toString('utf8');

  beforeAll(async () => {
    room = await commandRoom();
    buckets = await startS3Buckets();
    await buckets.makeBucket(BUCKET);
    const { endpoint, credentials: own } = buckets.options;
    bucket = new S3ObjectStore({ ...buckets.options, bucket: BUCKET, prefix: '' });
    credentials = {
      AWS_ACCESS_KEY_ID: own?.accessKeyId ?? '',
      AWS_SECRET_ACCESS_KEY: own?.secretAccessKey ?? '',
    };
    endpointToo = { ...credentials, AWS_ENDPOINT_URL_S3: endpoint };
    const run = smallRun('base', 3);
    const base = await put('configs/base.yaml', {
      ...run,
      storage: { s3Endpoint: endpoint },
      evaluation: {
        arms: ['meta-unadapted', 'meta-adapted'],
        ...{ innerRates: [0.1], innerSteps: [1], bootstrapSamples: 100 },
      },
    });
    const grid = { 'training.optimizer.rate': [0.001, 0.01, 0.02] };
    const sweep = { sweep: 'tiny', base, grid, output: SWEEP, halving: { rungs: 2 } };
    await put('configs/sweep.yaml', sweep);
    await done('prepare', base);
    expect(await done('check', base)).toMatch(/ok +config +run base/);
  });

  afterAll(async () => {
    await buckets.stop();
    await room.remove();
  });

  it('a sweep stops, resumes, and leaves in the bucket what it would leave in a folder', async () => {
    const sweep = `s3://${BUCKET}/configs/sweep.yaml`;
    const first = room.start(['sweep', sweep], endpointToo);
    await first.saw(/t01 at outer step 1: validation logloss/);
    first.signal('SIGINT');
    expect((await first.ended).exitCode).toBe(4);
    const resume = ['sweep', sweep, '--resume', '--format', 'json'];
    const printed = await done(...resume);
    expect(printed.trim()).toBe((await textOf('sweep/sweep.json')).trim());

    const record = SweepRecordSchema.parse(JSON.parse(printed));
    const { trial } = record.best!;
    const digest = record.trials.find(({ name }) => name === trial)!.scores[1]!.metaDigest!;
    best = { output: `${SWEEP}/trials/${trial}`, digest };
    const keys = await bucket.list('sweep/');
    const latest = keys.filter((key) => key.endsWith('checkpoints/latest.json'));
    expect(latest).toEqual([`sweep/trials/${trial}/checkpoints/latest.json`]);
    expect(keys).toEqual(expect.arrayContaining(['sweep/sweep.html', 'sweep/best.yaml']));
  });

  it('the best trial is a run: it can be continued, evaluated, compared, and started from', async () => {
    expect(await done('train', BEST, '--resume')).toContain(best.digest);
    await done('evaluate', BEST);

    const out = `s3://${BUCKET}/comparison`;
    const runs = [BEST, `${best.output}:meta-unadapted`];
    const compare = ['compare', ...runs, '--out', out, '--format', 'json'];
    const printed = await done(...compare);
    expect(printed.trim()).toBe((await textOf('comparison/comparison.json')).trim());
    const report = ComparisonReportSchema.parse(JSON.parse(printed));
    expect(report.slices[0]?.arms.map(({ differences }) => differences.length)).toEqual([0, 1]);
    expect(await textOf('comparison/comparison.html')).toContain('meta-unadapted');

    const following = await room.config('following', (config) => {
      config['storage'] = { s3Endpoint: buckets.options.endpoint };
      const optimizer = { kind: 'sgd', rate: 1e-60 };
      Object.assign(config.training, { startFrom: best.output, optimizer });
    });
    expect(await done('train', following)).toContain(best.digest);
  });

  it.each([
    ['no-such.yaml', /^no such object$/],
    ['', /^a prefix, not an object$/],
    ['a name.yaml', /^no such object$/],
  ])('a config that is not at configs/%s is refused', async (name, found) => {
    const address = `s3://${BUCKET}/configs/${name}`;
    const expected: ExpectedFailure = {
      exitCode: 2,
      what: /^the config cannot be read$/,
      where: new RegExp(`^${address}$`),
      expected: /s3:\/\//,
      found,
      cure: /AWS_ENDPOINT_URL_S3/,
    };
    await room.refused(['train', address], expected, endpointToo);
  });

  it.each<[string, readonly string[], ExpectedFailure]>([
    [
      'a prefix that holds no run',
      [BEST, `s3://${BUCKET}/nothing`],
      { exitCode: 2, what: /^there is no run$/, where: /^s3:\/\/experiments\/nothing/, cure: /./ },
    ],
    [
      'a bucket that does not exist',
      [BEST, 's3://no-such-bucket/run'],
      { exitCode: 3, what: /./, where: /no-such-bucket/, cure: /bucket/ },
    ],
  ])('compare refuses %s', async (_, runs, expected) => {
    await room.refused(['compare', ...runs], expected, endpointToo);
  });
});
