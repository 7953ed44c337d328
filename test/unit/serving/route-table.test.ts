/** Paths of requests and the endpoints that they lead to. */

import { describe, expect, test } from 'vitest';
import { jsonAnswer, RouteTable, type Endpoint } from '../../../worker/serving/server/endpoint.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';

const answer: Endpoint['answer'] = () => jsonAnswer({});

const RANK: Endpoint = { method: 'POST', path: '/v1/rank', mediaTypes: ['text/plain'], answer };
const ALL: Endpoint = { method: 'GET', path: '/v1/models', answer };
const MODEL: Endpoint = { method: 'GET', path: '/v1/models/{model}', answer };
const table = new RouteTable([RANK, ALL, MODEL]);

function reasonOf(method: string, url: string): string {
  try {
    table.routeOf(method, url);
  } catch (error) {
    if (error instanceof RefusedRequest) return error.refusal.reason;
    throw error;
  }
  return 'none';
}

describe('a path', () => {
  test.each([
    ['POST', '/v1/rank', RANK, ''],
    ['POST', '/v1/rank?x=/v1/models/y', RANK, ''],
    ['GET', '/v1/models', ALL, ''],
    ['HEAD', '/v1/models/shop', MODEL, 'shop'],
    ['GET', '/v1/models/a%20b%2Fc', MODEL, 'a b/c'],
    ['GET', '/v1/models/__proto__', MODEL, '__proto__'],
    ['GET', '/v1/models/{model}', MODEL, '{model}'],
  ])('of %s %s leads to its endpoint', (method, url, endpoint, parameter) => {
    expect(table.routeOf(method, url)).toEqual({ endpoint, parameter });
  });

  test.each([
    ['GET', '/v1/rank', 'wrong-method'],
    ['DELETE', '/v1/models/shop', 'wrong-method'],
    ['POST', '/v1/rank/', 'no-such-path'],
    ['POST', '/v1/RANK', 'no-such-path'],
    ['GET', '/v1/models/', 'no-such-path'],
    ['GET', '/v1/models/%zz', 'no-such-path'],
    ['GET', '/v1/models/a/b', 'no-such-path'],
    ['GET', '/../../etc/passwd', 'no-such-path'],
    ['GET', '', 'no-such-path'],
  ])('of %s %s has a defined answer', (method, url, reason) => {
    expect(reasonOf(method, url)).toBe(reason);
  });
});
