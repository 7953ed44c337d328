/** Explains the errors of an S3 store, and what to do about them. */

import { QianmoError, type FailureReport } from '../base/errors.js';
import { StoreUnavailableError } from './object-store.js';

interface S3Refusal {
  readonly name: string;
  /** 0 if the store never answered. */
  readonly status: number;
  /** Requests sent, retries included. */
  readonly attemptCount: number;
}

export function s3RefusalOf(cause: unknown): S3Refusal {
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
export function isNoSuchObject({ name }: S3Refusal): boolean {
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

/** Whether another upload of the same bytes may succeed. */
export function isCorruptedUpload({ name }: S3Refusal): boolean {
  return CORRUPTED.has(name);
}

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
export function mayHaveBeenDone({ name, status }: S3Refusal): boolean {
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
export function endlessListing(where: string, pageCount: number): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: 'the object store does not come to the end of a listing',
    where,
    found: `a next page after page ${pageCount}`,
    cure: 'check the object store and what is between; completed work stays valid',
  });
}

export function s3Failure(cause: unknown, where: string): QianmoError {
  if (cause instanceof QianmoError) return cause;
  const refusal = s3RefusalOf(cause);
  const status = refusal.status === 0 ? '' : ` (HTTP ${refusal.status})`;
  const { kind, ...explanation } = explanationOf(refusal);
  const report = { ...explanation, where, found: `${refusal.name}${status}`, cause };
  return kind === 'transient'
    ? new StoreUnavailableError(report)
    : new QianmoError({ kind, ...report });
}
