/** One exchange with a server that may hang, lie or be gone: bounded in time and in bytes. */

import type { Clock } from './clock.js';
import { systemCodeOf } from './system-errors.js';

interface HttpRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

interface Bounds {
  readonly clock: Clock;
  readonly signal?: AbortSignal;
  /** 10 s if absent. */
  readonly timeoutMs?: number;
}

export interface HttpAnswer {
  readonly status: number;
  readonly text: string;
}

const TIMEOUT_MS_DEFAULT = 10_000;
const ANSWER_BYTE_COUNT_MAX = 1024 * 1024;

/**
 * Follows no redirection, which could carry a token elsewhere.
 *
 * @throws Error whose message has neither the address nor a header, since either may be a secret.
 */
export async function exchange(
  request: HttpRequest,
  { clock, signal, timeoutMs = TIMEOUT_MS_DEFAULT }: Bounds,
): Promise<HttpAnswer> {
  const ended = new AbortController();
  const late = new AbortController();
  void clock.sleep(timeoutMs, ended.signal).then(() => late.abort());
  try {
    const { url, method, headers, body } = request;
    const response = await fetch(url, {
      ...{
        method,
        headers,
        redirect: 'error',
        signal: AbortSignal.any([late.signal, ...(signal === undefined ? [] : [signal])]),
      },
      ...(body === undefined ? {} : { body }),
    });
    return { status: response.status, text: await boundedText(response) };
  } catch (error) {
    if (late.signal.aborted) throw new Error(`no answer within ${timeoutMs / 1_000} s`);
    throw new Error(reasonOf(error));
  } finally {
    ended.abort();
  }
}

async function boundedText({ body }: Response): Promise<string> {
  if (body === null) return '';
  const pieces: Uint8Array[] = [];
  let byteCount = 0;
  // The types of Node know its streams as iterable; those of the web do not.
  for await (const piece of body as unknown as AsyncIterable<Uint8Array>) {
    byteCount += piece.byteLength;
    if (byteCount > ANSWER_BYTE_COUNT_MAX) throw new Error('its answer is too long');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

/** fetch says "fetch failed", and its cause says why. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  const code = systemCodeOf(cause);
  if (code !== null) return code;
  return cause instanceof Error && cause.message !== '' ? cause.message : 'no connection';
}
