/**
 * Jobs in a parcel come out as they went in, and each has a record of its own. Seen to fail: with fields of the
 * first job given to all.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jobOf } from '../../../coordinator/dispatch/dispatcher.js';
import { parcellingProducer } from '../../../coordinator/dispatch/parcels/parcelling-producer.js';
import type { JobProducer, JobRecord, WakeUp } from '../../../shared/queue/job-queue.js';
import { computeMsOf, packedJobs, unpackedJobs } from '../../../shared/queue/job-parcel.js';
import { isOfStart, PROTOCOL_VERSION, type Job } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { ordersForTest } from '../../conformance/dispatcher.js';
import { resultOf } from '../../conformance/job-queue-scene.js';

const orders = ordersForTest(3);
const jobs = orders.map((order, place) => ({
  jobId: `run-gradient-0-${place}-a1-start-1`,
  job: jobOf(order, blobRefOf),
}));

function overNetwork(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

describe('a parcel', () => {
  it('gives back its jobs', () => {
    const unpacked = unpackedJobs(overNetwork(packedJobs(jobs)));
    expect(unpacked).toEqual(jobs.map(({ jobId, job }) => ({ jobId, data: overNetwork(job) })));
  });

  it('gives back jobs of any content', () => {
    const value = fc.oneof(fc.integer(), fc.string(), fc.array(fc.integer()), fc.constant(null));
    const record = fc.dictionary(fc.constantFrom('a', 'b', 'constructor', 'toString'), value);
    const any = fc.array(fc.tuple(record, record), { minLength: 2, maxLength: 5 });
    fc.assert(
      fc.property(any, (contents) => {
        const made = contents.map(([fields, work], place) => ({
          jobId: String(place),
          // A parcel looks at no field but the run and its epoch.
          job: { ...fields, runId: 'run', epoch: 1, work } as unknown as Job,
        }));
        const unpacked = unpackedJobs(overNetwork(packedJobs(made)));
        expect(unpacked?.map(({ data }) => data)).toEqual(made.map(({ job }) => overNetwork(job)));
      }),
      { seed: 48 },
    );
  });

  it('has what jobs have alike once', () => {
    const { alike, workAlike, parcel } = packedJobs(jobs);
    expect(alike).toMatchObject({ protocolVersion: PROTOCOL_VERSION, outerStep: 0 });
    expect(Object.keys(workAlike)).toEqual(['kind', 'method', 'taskWeights']);
    expect(parcel.map(({ own }) => Object.keys(own))).toEqual([
      ['jobIndex', 'taskIndices', 'rowPack'],
      ['jobIndex', 'taskIndices', 'rowPack'],
      ['jobIndex', 'taskIndices', 'rowPack'],
    ]);
  });

  it.each([
    ['a job', jobs[0]?.job],
    ['no record', 7],
    ['one job', { ...packedJobs(jobs), parcel: packedJobs(jobs).parcel.slice(1, 2) }],
    ['another version', { ...packedJobs(jobs), protocolVersion: 1 }],
    ['a field too many', { ...packedJobs(jobs), more: 1 }],
    [
      'too many jobs',
      { ...packedJobs(jobs), parcel: new Array(65).fill(packedJobs(jobs).parcel[0]) },
    ],
  ])('is not read from %s', (_, data) => {
    expect(unpackedJobs(overNetwork(data))).toBeNull();
  });

  it('computes as long as its jobs together', () => {
    const result = { ...resultOf(0), computeMs: 7 };
    const outcomes = [
      { jobId: 'a', result },
      { jobId: 'b', failure: 'transient: it fails' },
      { jobId: 'c', result: { ...result, computeMs: 5 } },
    ];
    expect(computeMsOf({ outcomes })).toBe(12);
    expect(computeMsOf(result)).toBe(7);
  });
});

/** A producer that knows one entry, and notes what is asked of it. */
function sceneWith(record: JobRecord) {
  const asked: { added: string[]; read: string[]; removed: readonly string[] } = {
    ...{ added: [], read: [], removed: [] },
  };
  let wake: WakeUp = () => undefined;
  const inner: Partial<JobProducer> = {
    add: (entries) => Promise.resolve(void asked.added.push(...entries.map(({ jobId }) => jobId))),
    read: (jobId) => {
      asked.read.push(jobId);
      return Promise.resolve(record);
    },
    remove: (jobIds) => Promise.resolve(void (asked.removed = jobIds)),
    subscribe: (listener) => {
      wake = listener;
      return () => undefined;
    },
  };
  // Members that are not called are missing.
  const producer = parcellingProducer(inner as JobProducer);
  return { producer, asked, wake: (...told: Parameters<WakeUp>) => wake(...told) };
}

describe('the records of jobs in a parcel', () => {
  const [first, second, third] = jobs.map(({ jobId }) => jobId);
  const entryId = `parcel-of-3-${first}`;
  const worker = 'w';

  it('belong to the start of the coordinator that sent them', async () => {
    const { producer, asked } = sceneWith({ state: 'gone' });
    await producer.addParcels([jobs, jobs.slice(0, 1)]);
    expect(asked.added).toEqual([entryId, first]);
    expect(isOfStart(entryId, 'start')).toBe(true);
  });

  it.each<JobRecord>([
    { state: 'gone' },
    { state: 'open', holder: worker },
    { state: 'failed', reason: 'worker-lost: gone', worker },
    { state: 'forged', reason: 'the signature is false', worker },
  ])('are that of the entry: %o', async (record) => {
    const { producer, asked } = sceneWith(record);
    await producer.addParcels([jobs]);
    const read = await Promise.all(jobs.map(({ jobId }) => producer.read(jobId)));
    expect(read).toEqual([record, record, record]);
    // Reads at one time are one command.
    expect(asked.read).toEqual([entryId]);
  });

  it('are their own outcomes', async () => {
    const returnValue = {
      outcomes: [
        { jobId: first, result: resultOf(0) },
        { jobId: second, failure: 'sick: full' },
        { jobId: third, isHandedBack: true },
      ],
    };
    const { producer, wake } = sceneWith({ state: 'completed', returnValue, worker });
    await producer.addParcels([jobs]);
    const expected = [
      { state: 'completed', returnValue: resultOf(0), worker },
      { state: 'failed', reason: 'sick: full', worker },
      { state: 'handed-back' },
    ];
    expect(await Promise.all(jobs.map(({ jobId }) => producer.read(jobId)))).toEqual(expected);
    const told: unknown[] = [];
    producer.subscribe((...each) => told.push(each));
    wake(entryId, { state: 'completed', returnValue, worker });
    wake('another');
    expect(told).toEqual([
      ...[first, second, third].map((jobId, place) => [jobId, expected[place]]),
      ['another', undefined],
    ]);
  });

  it.each([null, { outcomes: [] }, { outcomes: [{ jobId: 'x' }] }])(
    'are failures where the worker tells nothing of them: %o',
    async (returnValue) => {
      const { producer } = sceneWith({ state: 'completed', returnValue, worker });
      await producer.addParcels([jobs]);
      const failed = { state: 'failed', reason: expect.stringMatching(/^transient: /) as string };
      expect(await producer.read(second ?? '')).toMatchObject(failed);
    },
  );

  it('are removed with their entry', async () => {
    const { producer, asked } = sceneWith({ state: 'gone' });
    await producer.addParcels([jobs]);
    await producer.remove([...jobs.map(({ jobId }) => jobId), 'another']);
    expect(asked.removed).toEqual([entryId, 'another']);
  });
});
