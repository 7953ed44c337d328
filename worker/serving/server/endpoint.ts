/**
 * The contract between the server and what it answers: a path, the media types that its bodies have,
 * and a function from a received request to an answer. Limits on bodies, the token, the queue and the
 * deadline are the server's.
 */

import type { IncomingHttpHeaders } from 'node:http';
import type { BundleKeeper, CanaryKeeper } from './bundle-keeper.js';
import type { BundleWish } from './ranking-body.js';
import { RefusedRequest, type RefusalReason } from './refused-request.js';
import type { ServedBundle } from './served-bundle.js';

/** Outcomes of requests since the server was started. */
export interface RequestReport {
  readonly waiting: number;
  readonly answered: number;
  readonly abandoned: number;
  readonly refused: Readonly<Partial<Record<RefusalReason, number>>>;
  readonly byBundle: Readonly<Record<string, Readonly<Record<'answered' | 'refused', number>>>>;
}

export interface ServingPlace {
  readonly place: number;
  readonly wanted: number;
  readonly ready: number;
}

/** What an answer may say of the server itself. */
export interface ServerView {
  /** The bundle that is served, and what is known of others. */
  readonly keeper: Pick<BundleKeeper, 'name' | 'current' | 'refused' | 'swapCount' | 'arrays'>;
  /** Null where the server was started without one. */
  readonly canary: Pick<CanaryKeeper, 'name' | 'share' | 'current' | 'refused'> | null;
  /** Whether the server is stopping. */
  readonly isDraining: boolean;
  /** The place of this process among those on the port, and how many of them answer; null if it is alone. */
  readonly processes: ServingPlace | null;
  /** Candidates of a request whose scores are explained, at most. */
  readonly explainedMax: number;
  /** Counts of requests by what became of them. */
  requestReport(): RequestReport;
}

export interface ReceivedRequest {
  /** The bundle in use, taken once, so that the whole answer comes from one bundle. */
  readonly bundle: ServedBundle;
  /** The bundle that answers a request for scores: the one in use, or the canary. */
  readonly bundleFor: (asked: BundleWish) => ServedBundle;
  /** Empty for an endpoint that is read, and for every one once the answer is given. */
  readonly body: Buffer;
  /** That of the body, one of the endpoint's; empty for an endpoint that is read. */
  readonly mediaType: string;
  readonly headers: IncomingHttpHeaders;
  /** By the clock of the server, when the client gives up; infinite for an endpoint that is read. */
  readonly deadlineAtMs: number;
  /** What the path has in place of the names in braces. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly server: ServerView;
}

/** The content of an answer of status 200. */
export interface Answer {
  readonly mediaType: string;
  readonly content: string | Uint8Array;
  /** True if the content is valid until the next answer is made, so that whoever needs it longer takes a copy. */
  readonly isPassing?: boolean;
}

interface AnsweringEndpoint {
  /** Segments in braces, such as `/v1/dictionaries/{feature}`, match any one segment. */
  readonly path: string;
  /**
   * The answer, or a promise of it where something must be durable first; others are scored meanwhile.
   * Both throw a RefusedRequest for whatever the client can correct.
   */
  answer(request: ReceivedRequest): Answer | Promise<Answer>;
}

/** GET and HEAD, answered at once. */
interface ReadEndpoint extends AnsweringEndpoint {
  readonly method: 'GET';
  /** Answered without the token, which a probe of health does not have. */
  readonly isOpen?: boolean;
}

/** POST, answered when its turn comes. */
interface PostEndpoint extends AnsweringEndpoint {
  readonly method: 'POST';
  /** In small letters and without parameters. */
  readonly mediaTypes: readonly string[];
}

export type Endpoint = ReadEndpoint | PostEndpoint;

export const JSON_TYPE = 'application/json';

/** An answer whose content is valid for as long as it is kept. */
export function keptAnswer(answer: Answer): Answer {
  const { content, isPassing = false } = answer;
  if (!isPassing || typeof content === 'string') return answer;
  return { ...answer, content: Buffer.from(content), isPassing: false };
}

export function jsonAnswer(content: object): Answer {
  return { mediaType: JSON_TYPE, content: JSON.stringify(content) };
}

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
