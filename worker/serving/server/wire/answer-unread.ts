/** Answers to requests that node:http could not read: slow, too large a head, or no HTTP. */

import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import {
  PROBLEM_TYPE,
  problemOf,
  statusOf,
  type Refusal,
  type RefusalReason,
} from '../refused-request.js';
import { REQUEST_TIMEOUT_MS } from '../server-limits.js';

/** Closes the connection, and returns what is counted. */
export function answerUnread(error: NodeJS.ErrnoException, socket: Socket): RefusalReason {
  const refusal = unreadOf(error.code ?? '');
  if (!socket.writable || socket.destroyed) {
    socket.destroy();
    return refusal.reason;
  }
  const text = problemOf(refusal);
  const status = statusOf(refusal);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`, () => socket.destroy());
  return refusal.reason;
}

function unreadOf(code: string): Refusal {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return {
      reason: 'too-slow',
      what: 'the request did not arrive in time',
      expected: `headers and body within ${REQUEST_TIMEOUT_MS} ms`,
    };
  if (code === 'HPE_HEADER_OVERFLOW')
    return { reason: 'headers-too-large', what: 'the headers of the request are too large' };
  return { reason: 'malformed', what: 'this is not a request of HTTP/1.1', found: code };
}
