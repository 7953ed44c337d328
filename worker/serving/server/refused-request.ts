/** A request that is not answered with scores, and its reason; and JSON that is read or refused. */

import { isAscii } from 'node:buffer';
import type { z } from 'zod';
import { describeIssues } from '../../../shared/config/config-issues.js';
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

export function refusalOf(
  reason: RefusalReason,
  what: string,
  known: Omit<Refusal, 'reason' | 'what'> = {},
): RefusedRequest {
  return new RefusedRequest({ reason, what, ...known });
}

/** A value that does not fit the bundle, as the encoder reports it. */
export function refusedValue(error: QianmoError, where: string): RefusedRequest {
  const { what, expected, found, cure } = error.report;
  return new RefusedRequest({ reason: 'wrong-value', what, where, expected, found, cure });
}

const FAULTS_SHOWN_MAX = 5;
/** No body needs as many lists and objects in one another; describing the faults of one that has would overflow the stack. */
const DEPTH_MAX = 32;

const decoder = new TextDecoder('utf-8', { fatal: true });

function textOf(bytes: Uint8Array): string {
  if (!isAscii(bytes)) return decoder.decode(bytes);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** @throws RefusedRequest if the bytes are not JSON in UTF-8. */
export function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(textOf(bytes)) as unknown;
  } catch (error) {
    throw new RefusedRequest({
      reason: 'malformed',
      what: 'the body is not JSON in UTF-8',
      found: error instanceof Error ? error.message : undefined,
      cure: 'send the body that a JSON library writes',
    });
  }
}

/** @throws RefusedRequest that names what is wrong with the content. */
export function parseWith<Schema extends z.ZodType>(
  schema: Schema,
  content: unknown,
): z.output<Schema> {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  if (isDeep(content))
    throw new RefusedRequest({
      reason: 'wrong-value',
      what: 'the body is nested too deeply',
      expected: `at most ${DEPTH_MAX} lists and objects in one another`,
    });
  const faults = describeIssues(parsed.error.issues.slice(0, FAULTS_SHOWN_MAX), content, schema);
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the body has fields that are wrong, missing or unknown',
    found: faults.slice(0, FAULTS_SHOWN_MAX).join('; '),
    cure: 'correct the fields named above; infra/docs/serving.md lists them',
  });
}

function isDeep(content: unknown): boolean {
  let level: unknown[] = [content];
  for (let depth = 0; depth <= DEPTH_MAX; depth += 1) {
    level = level.flatMap((value): unknown[] =>
      typeof value === 'object' && value !== null ? Object.values(value) : [],
    );
    if (level.length === 0) return false;
  }
  return true;
}
