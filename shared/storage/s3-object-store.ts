/**
 * Objects in a bucket of S3 or a compatible store. Writes are atomic, and conditions are those of the
 * store (If-None-Match, If-Match). This is the only file that knows the AWS SDK.
 */

import type * as S3Sdk from '@aws-sdk/client-s3';
import type * as UploadSdk from '@aws-sdk/lib-storage';
import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { systemClock } from '../base/clock.js';
import { type FailureReport, QianmoError, errorOf } from '../base/errors.js';
import { systemCodeOf, systemFailure } from '../base/system-errors.js';
import { withRetry } from '../network/retry.js';
import { partOf } from './file-bytes.js';
import {
  type ListedObject,
  type ObjectStore,
  type PutCondition,
  StoreUnavailableError,
  type StoredObject,
  assertObjectKey,
  refuseLarger,
} from './object-store.js';

const MULTIPART_BYTE_COUNT_MIN = 8 * 1024 * 1024;
const PART_UPLOADS_MAX = 4;
const CONNECTION_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 60_000;
const REQUEST_ATTEMPTS_MAX = 4;
/** Attempts in cases that the SDK does not retry: a conflict, a corrupted upload, or an interrupted body. */
const OPERATION_ATTEMPTS_MAX = 5;
/** A page has up to a thousand objects. */
const LISTED_PAGES_MAX = 10_000;
const KEYS_A_PAGE_MAX = 1_000;

export interface S3Options {
  /** The endpoint of a compatible store; absent for AWS. */
  readonly endpoint?: string;
  readonly region: string;
  readonly forcePathStyle: boolean;
  /** If absent, the SDK looks for credentials (environment, profile, role). */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

interface S3ObjectStoreOptions extends S3Options {
  readonly bucket: string;
  /** The text before every key, without slashes at its ends; may be empty. */
  readonly prefix: string;
}

interface Connection {
  readonly sdk: typeof S3Sdk;
  readonly uploads: typeof UploadSdk;
  readonly client: S3Sdk.S3Client;
}

/**
 * Failures are QianmoErrors: `environment` (bucket, access, credentials), `transient` (unreachable,
 * overloaded).
 */
export class S3ObjectStore implements ObjectStore {
  readonly address: string;
  readonly #options: S3ObjectStoreOptions;
  #connection: Promise<Connection> | null = null;

  constructor(options: S3ObjectStoreOptions) {
    this.#options = options;
    const { bucket, prefix } = options;
    this.address = prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
  }

  async get(key: string, byteCountMax = Infinity): Promise<StoredObject | null> {
    return this.#attempted(key, async ({ sdk, client }) => {
      const found = await client.send(new sdk.GetObjectCommand(this.#objectOf(key)));
      if ((found.ContentLength ?? 0) > byteCountMax) dropBody(found.Body);
      refuseLarger(found.ContentLength ?? 0, byteCountMax, this.#whereOf(key));
      const bytes = (await found.Body?.transformToByteArray()) ?? new Uint8Array(0);
      return { bytes, etag: found.ETag ?? '' };
    });
  }

  async put(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string | null> {
    assertObjectKey(key);
    const where = this.#whereOf(key);
    // Set once a request may have been carried out without its answer arriving.
    let isInDoubt = false;
    const putOrDecide = async (): Promise<string | null> => {
      try {
        return await this.#putOnce(key, bytes, condition);
      } catch (cause) {
        const refusal = s3RefusalOf(cause);
        const isUnmet =
          refusal.status === 412 || (condition.kind === 'unchanged' && isNoSuchObject(refusal));
        isInDoubt ||= refusal.attemptCount > 1 || mayHaveBeenDone(refusal);
        const etag = isInDoubt ? await this.#etagIfOurs(key, bytes).catch(() => null) : null;
        if (etag !== null || isUnmet) return etag;
        throw cause;
      }
    };
    return repeated(putOrDecide, where, (cause) => {
      const refusal = s3RefusalOf(cause);
      return refusal.status === 409 || CORRUPTED.has(refusal.name);
    });
  }

  async list(prefix: string, countMax?: number): Promise<string[]> {
    return (await this.#listed(prefix, countMax)).map(({ key }) => key);
  }

  listWithTimes(prefix: string): Promise<ListedObject[]> {
    return this.#listed(prefix);
  }

  async #listed(prefix: string, countMax = Number.POSITIVE_INFINITY): Promise<ListedObject[]> {
    const base = this.#fullKeyOf('');
    try {
      const { sdk, client } = await this.#connect();
      const listed: ListedObject[] = [];
      const pages = sdk.paginateListObjectsV2(
        { client },
        {
          ...{ Bucket: this.#options.bucket, Prefix: base + prefix },
          MaxKeys: Math.min(KEYS_A_PAGE_MAX, countMax),
        },
      );
      let pageCount = 0;
      let token: string | undefined;
      for await (const page of pages) {
        pageCount += 1;
        const next = page.NextContinuationToken;
        if (next !== undefined && (next === token || pageCount === LISTED_PAGES_MAX))
          throw endlessListing(this.#whereOf(prefix), pageCount);
        token = next;
        for (const { Key: fullKey, LastModified: modified, Size: size } of page.Contents ?? [])
          if (fullKey !== undefined)
            listed.push({
              key: fullKey.slice(base.length),
              modifiedMs: modified?.getTime() ?? 0,
              byteCount: size ?? 0,
            });
        if (listed.length >= countMax) break;
      }
      listed.sort((first, second) => (first.key < second.key ? -1 : 1));
      return listed.slice(0, countMax);
    } catch (cause) {
      throw s3Failure(cause, this.#whereOf(prefix));
    }
  }

  async delete(key: string): Promise<void> {
    await this.#attempted(key, async ({ sdk, client }) => {
      await client.send(new sdk.DeleteObjectCommand(this.#objectOf(key)));
      return null;
    });
  }

  /**
   * Streams an object to a file that appears only when complete. Returns the etag, or null if there is
   * no such object.
   */
  async downloadToFile(key: string, path: string): Promise<string | null> {
    const incoming = partOf(path);
    try {
      return await this.#attempted(key, async ({ sdk, client }) => {
        const found = await client.send(new sdk.GetObjectCommand(this.#objectOf(key)));
        await mkdir(dirname(path), { recursive: true });
        // In Node the SDK's body is a Readable.
        const body = found.Body instanceof Readable ? found.Body : Readable.from([]);
        await pipeline(body, createWriteStream(incoming));
        await rename(incoming, path);
        return found.ETag ?? '';
      });
    } finally {
      await rm(incoming, { force: true });
    }
  }

  async #putOnce(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string> {
    const { sdk, uploads, client } = await this.#connect();
    const parameters = {
      ...this.#objectOf(key),
      Body: bytes,
      ...(condition.kind === 'absent' ? { IfNoneMatch: '*' } : {}),
      ...(condition.kind === 'unchanged' ? { IfMatch: condition.etag } : {}),
    };
    if (bytes.byteLength <= MULTIPART_BYTE_COUNT_MIN) {
      const written = await client.send(new sdk.PutObjectCommand(parameters));
      return written.ETag ?? '';
    }
    const upload = new uploads.Upload({
      client,
      params: parameters,
      partSize: MULTIPART_BYTE_COUNT_MIN,
      queueSize: PART_UPLOADS_MAX,
      leavePartsOnError: false,
    });
    return (await upload.done()).ETag ?? '';
  }

  /**
   * The etag if the object has exactly these bytes: a request whose answer was lost may have written
   * them. Otherwise null.
   */
  async #etagIfOurs(key: string, bytes: Uint8Array): Promise<string | null> {
    return this.#attempted(key, async ({ sdk, client }) => {
      const found = await client.send(new sdk.GetObjectCommand(this.#objectOf(key)));
      if (found.ContentLength !== undefined && found.ContentLength !== bytes.byteLength) {
        dropBody(found.Body);
        return null;
      }
      const content = (await found.Body?.transformToByteArray()) ?? new Uint8Array(0);
      return Buffer.compare(content, bytes) === 0 ? (found.ETag ?? '') : null;
    });
  }

  /** Null if there is no such object. Repeats operations that were interrupted. */
  async #attempted<Result>(
    key: string,
    operation: (connection: Connection) => Promise<Result>,
  ): Promise<Result | null> {
    assertObjectKey(key);
    const where = this.#whereOf(key);
    const found = async (): Promise<Result | null> => {
      try {
        return await operation(await this.#connect());
      } catch (cause) {
        if (isNoSuchObject(s3RefusalOf(cause))) return null;
        if (isDiskTrouble(cause)) throw systemFailure(cause, 'downloading an object', where);
        throw cause;
      }
    };
    return repeated(found, where, isBrokenOff);
  }

  #objectOf(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#options.bucket, Key: this.#fullKeyOf(key) };
  }

  #fullKeyOf(key: string): string {
    const { prefix } = this.#options;
    return prefix === '' ? key : `${prefix}/${key}`;
  }

  #whereOf(key: string): string {
    const { endpoint } = this.#options;
    return `${this.address}/${key}${endpoint === undefined ? '' : ` at ${endpoint}`}`;
  }

  /** The SDK takes 0.2 s to load, so it is loaded on first use. */
  #connect(): Promise<Connection> {
    this.#connection ??= connect(this.#options);
    return this.#connection;
  }
}

async function connect(options: S3Options): Promise<Connection> {
  const [sdk, uploads] = await Promise.all([
    import('@aws-sdk/client-s3'),
    import('@aws-sdk/lib-storage'),
  ]);
  const client = withoutSupportWarning(
    () =>
      new sdk.S3Client({
        region: options.region,
        forcePathStyle: options.forcePathStyle,
        ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
        ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
        maxAttempts: REQUEST_ATTEMPTS_MAX,
        // Some compatible stores refuse the checksums that the SDK adds by default.
        requestChecksumCalculation: 'WHEN_REQUIRED',
        responseChecksumValidation: 'WHEN_REQUIRED',
        requestHandler: {
          connectionTimeout: CONNECTION_TIMEOUT_MS,
          requestTimeout: REQUEST_TIMEOUT_MS,
          throwOnRequestTimeout: true,
        },
      }),
  );
  return { sdk, uploads, client };
}

/**
 * When the first client of a process is made, the SDK may warn that it will stop supporting this version
 * of Node. The version of the SDK is pinned here, so a user can do nothing about it.
 */
function withoutSupportWarning<Result>(make: () => Result): Result {
  const emitWarning = process.emitWarning.bind(process);
  process.emitWarning = (warning: string | Error, ...rest: unknown[]): void => {
    if (String(warning).includes('NodeVersionSupportWarning')) return;
    Reflect.apply(emitWarning, process, [warning, ...rest]);
  };
  try {
    return make();
  } finally {
    process.emitWarning = emitWarning;
  }
}

function repeated<Result>(
  operation: () => Promise<Result>,
  where: string,
  mayPass: (cause: unknown) => boolean,
): Promise<Result> {
  return withRetry(operation, {
    assertRetriable: (cause, { attempt }) => {
      if (!mayPass(cause) || attempt === OPERATION_ATTEMPTS_MAX) throw s3Failure(cause, where);
    },
    pause: (pauseMs) => systemClock.sleep(pauseMs),
  });
}

/** Ends a download that is not wanted. */
function dropBody(body: unknown): void {
  if (body instanceof Readable) body.destroy();
}

function isBrokenOff(cause: unknown): boolean {
  return ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'EPIPE'].includes(systemCodeOf(cause) ?? '');
}

function isDiskTrouble(cause: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EACCES', 'EROFS', 'ENOTDIR'].includes(systemCodeOf(cause) ?? '');
}

interface S3Refusal {
  readonly name: string;
  /** 0 if the store never answered. */
  readonly status: number;
  /** Requests sent, retries included. */
  readonly attemptCount: number;
}

function s3RefusalOf(cause: unknown): S3Refusal {
  if (!(cause instanceof Error)) return { name: 'unknown', status: 0, attemptCount: 1 };
  const metadata: unknown = '$metadata' in cause ? cause.$metadata : null;
  const numberOf = (name: string, otherwise: number): number => {
    if (typeof metadata !== 'object' || metadata === null) return otherwise;
    // The metadata is a plain object of the SDK; the value is checked here.
    const value = (metadata as Record<string, unknown>)[name];
    return typeof value === 'number' ? value : otherwise;
  };
  const code: unknown = 'code' in cause ? cause.code : undefined;
  return {
    name: typeof code === 'string' && cause.name === 'Error' ? code : cause.name,
    status: numberOf('httpStatusCode', 0),
    attemptCount: numberOf('attempts', 1),
  };
}

/** The object does not exist, rather than the bucket or the account. */
function isNoSuchObject({ name }: S3Refusal): boolean {
  return name === 'NoSuchKey' || name === 'NotFound';
}

/** Refusals of an upload whose bytes changed on the way. */
const CORRUPTED: ReadonlySet<string> = new Set([
  'BadDigest',
  'InvalidDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'IncompleteBody',
]);

/** Failures before the request was sent, and refusals to begin with it. */
const NEVER_BEGUN: ReadonlySet<string> = new Set([
  'SlowDown',
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'CredentialsProviderError',
]);

/**
 * Whether the store may have carried out a request that failed. An upload that the store does not know was
 * completed by an earlier attempt, or aborted.
 */
function mayHaveBeenDone({ name, status }: S3Refusal): boolean {
  if (name === 'NoSuchUpload') return true;
  return !NEVER_BEGUN.has(name) && (status >= 500 || status === 0);
}

type Explanation = Pick<FailureReport, 'kind' | 'what' | 'cure'>;

const CREDENTIALS: Explanation = {
  kind: 'environment',
  what: 'the object store does not accept the credentials',
  cure: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile, or a role) to valid ones',
};

const EXPLANATION_BY_NAME: Readonly<Record<string, Explanation>> = {
  NoSuchBucket: {
    kind: 'environment',
    what: 'the bucket does not exist',
    cure: 'create the bucket, or correct its name in the address',
  },
  InvalidAccessKeyId: CREDENTIALS,
  SignatureDoesNotMatch: CREDENTIALS,
  /** The error that versitygw gives. */
  XAdminUserNotFound: CREDENTIALS,
  ExpiredToken: CREDENTIALS,
  InvalidToken: CREDENTIALS,
  CredentialsProviderError: {
    kind: 'environment',
    what: 'there are no credentials for the object store',
    cure: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, or give this host a role',
  },
  PermanentRedirect: {
    kind: 'environment',
    what: 'the bucket is in another region',
    cure: "set storage.s3Region to the bucket's region",
  },
  AuthorizationHeaderMalformed: {
    kind: 'environment',
    what: 'the bucket is in another region',
    cure: "set storage.s3Region to the bucket's region",
  },
  NotImplemented: {
    kind: 'environment',
    what: 'the object store does not support this request',
    cure: 'use a store with conditional writes, such as AWS S3, MinIO or versitygw',
  },
};

function explanationOf({ name, status }: S3Refusal): Explanation {
  const known = EXPLANATION_BY_NAME[name];
  if (known !== undefined) return known;
  if (CORRUPTED.has(name))
    return {
      kind: 'transient',
      what: 'an upload arrived at the object store with other bytes',
      cure: 'check the memory of this machine and the network, proxies included',
    };
  if (status === 401 || status === 403)
    return {
      kind: 'environment',
      what: 'access to the object store was denied',
      cure: 'allow GetObject, PutObject, DeleteObject and ListBucket on this bucket and prefix',
    };
  if (status === 0)
    return {
      kind: 'transient',
      what: 'the object store cannot be reached',
      cure: 'check storage.s3Endpoint, that the server is running and that the network allows the connection',
    };
  if (status === 404)
    return {
      kind: 'environment',
      what: 'the object store does not know the bucket or address',
      cure: 'check that the bucket exists and that storage.s3ForcePathStyle fits the store',
    };
  if (status >= 500 || status === 429 || status === 409)
    return {
      kind: 'transient',
      what: 'the object store is overloaded or failing',
      cure: 'try again later; completed work stays valid',
    };
  return {
    kind: 'environment',
    what: 'the object store refused a request',
    cure: 'see the reason above',
  };
}

/** A listing that comes back to a page, or has more pages than any run or store writes. */
function endlessListing(where: string, pageCount: number): QianmoError {
  return errorOf('transient', 'the object store does not come to the end of a listing', {
    where,
    found: `a next page after page ${pageCount}`,
    cure: 'check the object store and what is between; completed work stays valid',
  });
}

function s3Failure(cause: unknown, where: string): QianmoError {
  if (cause instanceof QianmoError) return cause;
  const refusal = s3RefusalOf(cause);
  const status = refusal.status === 0 ? '' : ` (HTTP ${refusal.status})`;
  const { kind, ...explanation } = explanationOf(refusal);
  const report = { ...explanation, where, found: `${refusal.name}${status}`, cause };
  return kind === 'transient'
    ? new StoreUnavailableError(report)
    : new QianmoError({ kind, ...report });
}
