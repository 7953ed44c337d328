/** What the head of a request must say before its body is received. */

import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { RefusedRequest } from './refused-request.js';
import { DEADLINE_MS_MAX } from './server-limits.js';
import { PRIORITIES, type Priority } from './work-queue.js';

const PRIORITY_HEADER = 'qianmo-priority';
const DEADLINE_HEADER = 'qianmo-deadline-ms';

/** Digests have one length, whatever was sent. */
function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** @param token null where none is demanded. */
export function demandToken(headers: IncomingHttpHeaders, token: string | null): void {
  if (token === null) return;
  const found = headers.authorization ?? '';
  if (timingSafeEqual(digestOf(found), digestOf(`Bearer ${token}`))) return;
  throw new RefusedRequest({
    reason: 'unauthorised',
    what: 'the request has no token, or another one',
    where: 'header Authorization',
    expected: 'Bearer and the token that the server was started with',
    cure: 'ask whoever runs the server for the token',
  });
}

/**
 * The type of the body, without its parameters. A page of another site can send a form or plain text
 * without asking, so that no endpoint should take those.
 */
export function demandMediaType(
  headers: IncomingHttpHeaders,
  mediaTypes: readonly string[],
): string {
  const type = headers['content-type'] ?? '';
  const encoding = headers['content-encoding'] ?? 'identity';
  const mediaType = (type.split(';', 1)[0] ?? '').trim().toLowerCase();
  if (mediaTypes.includes(mediaType) && encoding === 'identity') return mediaType;
  throw new RefusedRequest({
    reason: 'wrong-content-type',
    what: 'the body is of another type, or compressed',
    where: encoding === 'identity' ? 'header Content-Type' : 'header Content-Encoding',
    expected: `Content-Type ${mediaTypes.join(' or ')}, not compressed`,
    found: encoding === 'identity' ? type : encoding,
  });
}

/** That of the header; one in the middle if it has none. */
export function priorityOf(headers: IncomingHttpHeaders): Priority {
  const text = headers[PRIORITY_HEADER];
  if (text === undefined) return 'normal';
  const found = PRIORITIES.find((priority) => priority === text);
  if (found !== undefined) return found;
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'there is no such priority',
    where: `header ${PRIORITY_HEADER}`,
    expected: PRIORITIES.join(', '),
    found: String(text),
  });
}

/** How long the request may wait: what it asks for, but no longer than the server says. */
export function deadlineOf(headers: IncomingHttpHeaders, ofServerMs: number): number {
  const text = headers[DEADLINE_HEADER];
  if (text === undefined) return ofServerMs;
  const askedMs = typeof text === 'string' && /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (askedMs >= 1 && askedMs <= DEADLINE_MS_MAX) return Math.min(askedMs, ofServerMs);
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the deadline is not a number of milliseconds',
    where: `header ${DEADLINE_HEADER}`,
    expected: `a whole number from 1 to ${DEADLINE_MS_MAX}`,
    found: String(text),
  });
}
