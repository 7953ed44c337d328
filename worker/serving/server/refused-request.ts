/** A request that is not answered with scores, and its reason. */

import type { QianmoError } from '../../../shared/base/errors.js';

/** Counted by the server. */
export type RefusalReason = keyof typeof STATUS_BY_REASON;

export const STATUS_BY_REASON = {
  malformed: 400,
  'wrong-value': 400,
  'not-finite': 400,
  unauthorised: 401,
  'no-such-path': 404,
  'wrong-method': 405,
  'other-bundle': 409,
  /** Of candidates alone, whose adgroups take no part. */
  paused: 409,
  removed: 409,
  'too-large': 413,
  'wrong-content-type': 415,
  'queue-full': 429,
  bug: 500,
  'too-many-bodies': 503,
  deadline: 503,
  'not-adapted': 503,
  draining: 503,
  'not-durable': 503,
} as const;

/** Parts of a report, as `QianmoError` has them. */
export interface Refusal {
  readonly reason: RefusalReason;
  readonly what: string;
  readonly where?: string | undefined;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
  readonly cure?: string | undefined;
}

export class RefusedRequest extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.what);
    this.refusal = refusal;
  }
}

/** A value that does not fit the bundle, as the encoder reports it. */
export function refusedValue(error: QianmoError, where: string): RefusedRequest {
  const { what, expected, found, cure } = error.report;
  return new RefusedRequest({ reason: 'wrong-value', what, where, expected, found, cure });
}
