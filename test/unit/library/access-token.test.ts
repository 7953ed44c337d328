/** Where a server may listen without a token. */

import { expect, test } from 'vitest';
import { requireTokenBeyondLoopback } from '../../../infra/library/access-token.js';

const VARIABLE = 'QIANMO_SERVE_TOKEN';

test.each(['127.0.0.1', '127.8.9.10', '::1', 'localhost'])('%s needs no token', (host) => {
  expect(() => requireTokenBeyondLoopback(host, null, VARIABLE)).not.toThrow();
});

test.each(['127.example.com', '127.0.0.1.example.com', '127.0.0.999', '0.0.0.0', '::', '10.0.0.5'])(
  '%s needs a token',
  (host) => {
    expect(() => requireTokenBeyondLoopback(host, null, VARIABLE)).toThrow(/open to everybody/);
    expect(() => requireTokenBeyondLoopback(host, 'abcdefghijklmnop', VARIABLE)).not.toThrow();
  },
);
