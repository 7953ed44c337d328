/**
 * The coordinator's end of a queue on which small jobs travel in parcels. Everybody else deals with single
 * jobs: an entry is read once for all of its jobs, and each of them has a record of its own.
 */

import { LruCache } from '../../../shared/base/lru-cache.js';
import type { JobProducer, JobRecord, QueuedJob, WakeUp } from '../../../shared/queue/job-queue.js';
import { outcomesIn, packedJobs } from '../../../shared/queue/job-parcel.js';
import type { Job } from '../../../shared/queue/protocol.js';

/** Bounds the memory of which job travelled in which parcel: more than workers hold at once. */
const REMEMBERED_JOBS_MAX = 2 ** 17;

type SingleJob = QueuedJob & { readonly job: Job };

interface Parcel {
  readonly entryId: string;
  readonly jobIds: readonly string[];
}

export interface ParcellingProducer extends JobProducer {
  /** Adds all jobs or none, each group as one entry of the queue. */
  addParcels(groups: readonly (readonly SingleJob[])[]): Promise<void>;
}

export function parcellingProducer(inner: JobProducer): ParcellingProducer {
  const parcelByJobId = new LruCache<string, Parcel>({ countMax: REMEMBERED_JOBS_MAX });
  const parcelByEntryId = new LruCache<string, Parcel>({ countMax: REMEMBERED_JOBS_MAX });
  const readsUnderWay = new Map<string, Promise<JobRecord>>();

  const entryOf = (group: readonly SingleJob[]): QueuedJob | null => {
    const [first] = group;
    if (first === undefined) return null;
    if (group.length === 1) return first;
    const entryId = entryIdOf(first.jobId, group.length);
    const parcel = { entryId, jobIds: group.map(({ jobId }) => jobId) };
    parcelByEntryId.put(entryId, parcel);
    for (const jobId of parcel.jobIds) parcelByJobId.put(jobId, parcel);
    return { jobId: entryId, job: packedJobs(group) };
  };
  const readEntry = (entryId: string): Promise<JobRecord> => {
    const underWay = readsUnderWay.get(entryId);
    if (underWay !== undefined) return underWay;
    const reading = inner.read(entryId).finally(() => readsUnderWay.delete(entryId));
    readsUnderWay.set(entryId, reading);
    return reading;
  };
  const heard = (listener: WakeUp): WakeUp => {
    return (jobId, record) => {
      const parcel = parcelByEntryId.get(jobId);
      if (parcel === undefined) {
        listener(jobId, record);
        return;
      }
      const recordFor = record === undefined ? () => undefined : recordsOf(record);
      for (const each of parcel.jobIds) listener(each, recordFor(each));
    };
  };
  return {
    ...inner,
    addParcels: (groups) => inner.add(groups.flatMap((group) => entryOf(group) ?? [])),
    read: async (jobId) => {
      const parcel = parcelByJobId.get(jobId);
      if (parcel === undefined) return inner.read(jobId);
      return recordsOf(await readEntry(parcel.entryId))(jobId);
    },
    remove: (jobIds) =>
      inner.remove([...new Set(jobIds.map((jobId) => parcelByJobId.get(jobId)?.entryId ?? jobId))]),
    subscribe: (listener) => inner.subscribe(heard(listener)),
  };
}

/** Ends as the id of its first job, which tells the start of a coordinator that it belongs to. */
function entryIdOf(firstJobId: string, jobCount: number): string {
  return `parcel-of-${jobCount}-${firstJobId}`;
}

/** The records of single jobs, from that of their parcel. */
function recordsOf(entry: JobRecord): (jobId: string) => JobRecord {
  // A parcel that waits, is lost or has failed as a whole says the same of each of its jobs.
  if (entry.state !== 'completed') return () => entry;
  const { worker } = entry;
  const outcomes = outcomesIn(entry.returnValue);
  return (jobId) => {
    const outcome = outcomes?.get(jobId);
    if (outcome === undefined)
      return { state: 'failed', reason: 'transient: its worker tells nothing of the job', worker };
    if ('result' in outcome) return { state: 'completed', returnValue: outcome.result, worker };
    if ('failure' in outcome) return { state: 'failed', reason: outcome.failure, worker };
    return { state: 'handed-back' };
  };
}
