/** The endpoints of a server by their paths. A path is compared with theirs and never opened. */

import type { Endpoint, ReceivedRequest } from './endpoint.js';
import { RefusedRequest } from './refused-request.js';

interface Route {
  readonly endpoint: Endpoint;
  readonly parameters: ReceivedRequest['parameters'];
}

interface Pattern {
  readonly segments: readonly string[];
  readonly byMethod: Map<string, Endpoint>;
}

const NO_PARAMETERS: ReceivedRequest['parameters'] = {};
const PARAMETER = /^\{(.+)\}$/;

export class RouteTable {
  readonly #exact = new Map<string, Map<string, Endpoint>>();
  readonly #patterns: Pattern[] = [];
  readonly #paths: readonly string[];

  constructor(endpoints: readonly Endpoint[]) {
    this.#paths = [...new Set(endpoints.map(({ path }) => path))];
    for (const path of this.#paths) {
      const byMethod = new Map<string, Endpoint>();
      for (const endpoint of endpoints.filter((each) => each.path === path)) {
        if (byMethod.has(endpoint.method)) throw new Error(`two endpoints answer ${path}`);
        byMethod.set(endpoint.method, endpoint);
      }
      if (path.includes('{')) this.#patterns.push({ segments: path.split('/'), byMethod });
      else this.#exact.set(path, byMethod);
    }
  }

  /** @throws RefusedRequest if no endpoint has the path, or none of them takes the method. */
  routeOf(method: string, url: string): Route {
    const queryAt = url.indexOf('?');
    const path = queryAt < 0 ? url : url.slice(0, queryAt);
    const exact = this.#exact.get(path);
    if (exact !== undefined)
      return { endpoint: endpointFor(exact, method, path), parameters: NO_PARAMETERS };
    const segments = path.split('/');
    for (const pattern of this.#patterns) {
      const parameters = parametersOf(pattern.segments, segments);
      if (parameters !== null)
        return { endpoint: endpointFor(pattern.byMethod, method, path), parameters };
    }
    throw new RefusedRequest({
      reason: 'no-such-path',
      what: 'there is no such path',
      expected: this.#paths.join(', '),
      found: path,
    });
  }
}

function endpointFor(
  byMethod: ReadonlyMap<string, Endpoint>,
  method: string,
  path: string,
): Endpoint {
  const endpoint = byMethod.get(method === 'HEAD' ? 'GET' : method);
  if (endpoint !== undefined) return endpoint;
  const allowed = [...byMethod.keys()].flatMap((each) =>
    each === 'GET' ? [each, 'HEAD'] : [each],
  );
  throw new RefusedRequest({
    reason: 'wrong-method',
    what: 'the path takes another method',
    where: path,
    expected: allowed.join(' or '),
    found: method,
  });
}

/** Null if the segments do not match. */
function parametersOf(
  pattern: readonly string[],
  segments: readonly string[],
): Readonly<Record<string, string>> | null {
  if (pattern.length !== segments.length) return null;
  const parameters: [string, string][] = [];
  for (const [place, expected] of pattern.entries()) {
    const found = segments[place] ?? '';
    const name = PARAMETER.exec(expected)?.[1];
    if (name === undefined) {
      if (found !== expected) return null;
    } else {
      const text = decoded(found);
      if (text === null || text === '') return null;
      parameters.push([name, text]);
    }
  }
  return Object.fromEntries(parameters);
}

/** Null if the percent signs are not those of an encoding. */
function decoded(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}
