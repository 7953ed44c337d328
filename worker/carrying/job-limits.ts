/**
 * The limits on what this worker does for a job. A job comes from whoever can write to the queue, so it must not
 * decide which places this machine opens, where signed requests go, or how long the worker is held.
 */

import { relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inputRefsOf, type CarriedJob, type StoreReference } from '../../shared/queue/protocol.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';

export interface JobLimits {
  /** Folders and `s3://BUCKET/PREFIX` in which stores and large blobs may lie. */
  readonly stores: readonly string[];
  /** S3 endpoints that a job may name. One without an endpoint goes to AWS. */
  readonly endpoints: readonly string[];
}

/** The longest that a config allows. */
const JOB_TIMEOUT_MS_MAX = 24 * 3_600_000;
const BLOB_LIFETIME_MS_MAX = 30 * 24 * 3_600_000;
const INPUT_BYTE_COUNT_MAX = 4 * 1024 ** 3;

interface WorkerPlaces {
  /** As given to the worker. */
  readonly stores: readonly string[];
  readonly endpoints: readonly string[];
  /** Where stores may lie if no place is given. */
  readonly workingFolder: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Endpoints of the environment are those of this machine's owner, as credentials are. */
export function jobLimitsOf(places: WorkerPlaces): JobLimits {
  const { stores, endpoints, workingFolder, environment } = places;
  const ofAws = [environment['AWS_ENDPOINT_URL_S3'], environment['AWS_ENDPOINT_URL']];
  return {
    stores: stores.length === 0 ? [workingFolder] : stores,
    endpoints: [...endpoints, ...ofAws.flatMap((each) => each ?? [])],
  };
}

/** The entries of a list that is written with commas. */
export function listedIn(text: string | undefined): string[] {
  return (text ?? '')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '');
}

/** Why this worker leaves the job to others; null if it does not. */
export function reasonToRefuse(job: CarriedJob, limits: JobLimits): string | null {
  const places = [
    ...(job.largeBlobs === undefined ? [] : [{ ...job.largeBlobs, folderOf: objectFolderOf }]),
    { ...job.store, folderOf: storeFolderOf },
  ];
  for (const place of places) {
    const reason = reasonToRefusePlace(place, limits);
    if (reason !== null) return reason;
  }
  if (job.timeoutMs > JOB_TIMEOUT_MS_MAX)
    return `this worker computes a job for at most ${JOB_TIMEOUT_MS_MAX} ms, not ${job.timeoutMs}`;
  if (job.blobLifetimeMs > BLOB_LIFETIME_MS_MAX)
    return `this worker keeps blobs for at most ${BLOB_LIFETIME_MS_MAX} ms, not ${job.blobLifetimeMs}`;
  const byteCount = inputRefsOf(job).reduce((sum, ref) => sum + ref.byteCount, 0);
  if (byteCount > INPUT_BYTE_COUNT_MAX)
    return `this worker takes at most ${INPUT_BYTE_COUNT_MAX} bytes of inputs, not ${byteCount}`;
  return null;
}

interface NamedPlace extends Pick<StoreReference, 'address' | 'storage'> {
  /** The folder of an address as whoever opens the place reads it. It throws for one that is malformed. */
  readonly folderOf: (address: string) => string;
}

function reasonToRefusePlace(
  { address, storage: { s3Endpoint: endpoint }, folderOf }: NamedPlace,
  limits: JobLimits,
): string | null {
  if (!limits.stores.some((allowed) => isWithin(address, allowed, folderOf)))
    return `this worker may not open ${address}: start it with --store-allow and this address or a folder above it`;
  if (isS3(address) && endpoint !== undefined && !isListed(endpoint, limits.endpoints))
    return `this worker may not send requests to ${endpoint}: start it with --endpoint-allow and this address`;
  return null;
}

function isS3(address: string): boolean {
  return address.startsWith('s3://');
}

function isWithin(address: string, allowed: string, folderOf: NamedPlace['folderOf']): boolean {
  if (isS3(address) !== isS3(allowed)) return false;
  if (isS3(address)) {
    const [parts, allowedParts] = [partsOf(address), partsOf(allowed)];
    // A gateway may resolve them as in a path.
    if (parts.includes('..')) return false;
    return allowedParts.every((part, index) => part === parts[index]);
  }
  const [path, allowedPath] = [absoluteOf(address, folderOf), absoluteOf(allowed, folderOf)];
  if (path === null || allowedPath === null) return false;
  const way = relative(allowedPath, path);
  return way !== '..' && !way.startsWith(`..${sep}`);
}

function partsOf(address: string): string[] {
  return address
    .slice('s3://'.length)
    .split('/')
    .filter((part) => part !== '');
}

/** The reader of stores takes such an address for a URL. */
function storeFolderOf(address: string): string {
  return address.startsWith('file://') ? fileURLToPath(address) : address;
}

/** Null for a URL that names no file of this machine. */
function absoluteOf(address: string, folderOf: NamedPlace['folderOf']): string | null {
  try {
    return resolve(folderOf(address));
  } catch {
    return null;
  }
}

function isListed(endpoint: string, endpoints: readonly string[]): boolean {
  return endpoints.some((each) => originOf(each) === originOf(endpoint));
}

/** Scheme, host and port; the text itself if it is no URL. */
function originOf(text: string): string {
  return URL.canParse(text) ? new URL(text).origin : text;
}
