/** Paths of requests and the endpoints that they lead to. */

import { describe, expect, test } from 'vitest';
import { jsonAnswer, type Endpoint } from '../../../worker/serving/server/endpoint.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { RouteTable } from '../../../worker/serving/server/endpoint.js';

const answer: Endpoint['answer'] = () => jsonAnswer({});
const mediaTypes = ['application/json'];

const RANK: Endpoint = { method: 'POST', path: '/v1/rank', mediaTypes, answer };
const MODEL: Endpoint = { method: 'GET', path: '/v1/models/{model}', answer };
const INFER: Endpoint = {
  method: 'POST',
  path: '/v1/models/{model}/infer',
  mediaTypes,
  answer,
};
const BLOCK: Endpoint = { method: 'GET', path: '/v1/blocks/{adgroup}', answer };
const ADAPT: Endpoint = {
  method: 'POST',
  path: '/v1/blocks/{adgroup}',
  mediaTypes,
  answer,
};
const table = new RouteTable([RANK, MODEL, INFER, BLOCK, ADAPT]);

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
    ['POST', '/v1/rank', RANK, {}],
    ['POST', '/v1/rank?x=/v1/models/y', RANK, {}],
    ['GET', '/v1/models/shop', MODEL, { model: 'shop' }],
    ['POST', '/v1/models/a%20b%2Fc/infer', INFER, { model: 'a b/c' }],
    ['GET', '/v1/blocks/__proto__', BLOCK, { adgroup: '__proto__' }],
    ['POST', '/v1/blocks/a', ADAPT, { adgroup: 'a' }],
  ])('of %s %s leads to its endpoint', (method, url, endpoint, parameters) => {
    expect(table.routeOf(method, url)).toEqual({ endpoint, parameters });
  });

  test.each([
    ['GET', '/v1/rank', 'wrong-method'],
    ['DELETE', '/v1/models/shop', 'wrong-method'],
    ['POST', '/v1/rank/', 'no-such-path'],
    ['POST', '/v1/RANK', 'no-such-path'],
    ['GET', '/v1/models/', 'no-such-path'],
    ['GET', '/v1/models/%zz', 'no-such-path'],
    ['POST', '/v1/models/a/b/infer', 'no-such-path'],
    ['GET', '/../../etc/passwd', 'no-such-path'],
    ['GET', '', 'no-such-path'],
  ])('of %s %s has a defined answer', (method, url, reason) => {
    expect(reasonOf(method, url)).toBe(reason);
  });
});
