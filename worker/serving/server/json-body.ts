/** Bodies in JSON: decoded, and checked against a schema. */

import { isAscii } from 'node:buffer';
import type { z } from 'zod';
import { describeIssues } from '../../../shared/config/config-issues.js';
import { RefusedRequest } from './refused-request.js';

const FAULTS_SHOWN_MAX = 5;

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
export function parsedBy<Schema extends z.ZodType>(
  schema: Schema,
  content: unknown,
): z.output<Schema> {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  const faults = describeIssues(parsed.error.issues.slice(0, FAULTS_SHOWN_MAX), content, schema);
  throw new RefusedRequest({
    reason: 'wrong-value',
    what: 'the body has fields that are wrong, missing or unknown',
    found: faults.slice(0, FAULTS_SHOWN_MAX).join('; '),
    cure: 'correct the fields named above; infra/docs/serving.md lists them',
  });
}
