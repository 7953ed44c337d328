/**
 * The contract between the server and what it answers: a path, the media types that its bodies have,
 * and a function from a received request to an answer. Limits on bodies, the token, the queue and the
 * deadline are the server's.
 */

import type { IncomingHttpHeaders } from 'node:http';
import type { BundleKeeper, CanaryKeeper } from './bundle-keeper.js';
import type { BundleWish } from './ranking-body.js';
import { type RefusalReason, refusalOf } from './refused-request.js';
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

/** The parts of the server that an answer may describe. */
export interface ServerView {
  /** The bundle that is served, and what is known of others. */
  readonly keeper: Pick<BundleKeeper, 'name' | 'current' | 'refused' | 'swapCount'>;
  /** Null where the server was started without one. */
  readonly canary: Pick<CanaryKeeper, 'name' | 'share' | 'current' | 'refused'> | null;
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
  /** The type of the body, one of the endpoint's; empty for an endpoint that is read. */
  readonly mediaType: string;
  readonly headers: IncomingHttpHeaders;
  /** By the clock of the server, when the client gives up; infinite for an endpoint that is read. */
  readonly deadlineAtMs: number;
  /** The last segment of the path where that of the endpoint is a name in braces; empty otherwise. */
  readonly parameter: string;
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
  /** A last segment in braces, as in `/v1/dictionaries/{feature}`, matches any one. */
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
  /** Changes what is served, so that a token for rankings alone does not suffice. */
  readonly isWrite?: boolean;
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
  readonly parameter: string;
}

export class RouteTable {
  readonly #exact = new Map<string, Endpoint>();
  /** By their paths up to the segment in braces. */
  readonly #patterns = new Map<string, Endpoint>();
  readonly #paths: string;

  constructor(endpoints: readonly Endpoint[]) {
    this.#paths = endpoints.map(({ path }) => path).join(', ');
    for (const endpoint of endpoints) {
      const [start = '', parameter] = endpoint.path.split('{');
      const table = parameter === undefined ? this.#exact : this.#patterns;
      if (table.has(start)) throw new Error(`two endpoints answer ${endpoint.path}`);
      table.set(start, endpoint);
    }
  }

  /** @throws RefusedRequest if no endpoint has the path, or the endpoint takes another method. */
  routeOf(method: string, url: string): Route {
    const queryAt = url.indexOf('?');
    const path = queryAt < 0 ? url : url.slice(0, queryAt);
    const lastAt = path.lastIndexOf('/') + 1;
    const exact = this.#exact.get(path);
    const parameter = exact === undefined ? decodeSegment(path.slice(lastAt)) : '';
    const endpoint =
      exact ?? (parameter === '' ? undefined : this.#patterns.get(path.slice(0, lastAt)));
    if (endpoint === undefined)
      throw refusalOf('no-such-path', 'there is no such path', {
        ...{ expected: this.#paths, found: path },
      });
    if (endpoint.method === (method === 'HEAD' ? 'GET' : method)) return { endpoint, parameter };
    throw refusalOf('wrong-method', 'the path takes another method', {
      where: path,
      expected: endpoint.method === 'GET' ? 'GET, HEAD' : 'POST',
      found: method,
    });
  }
}

/** Empty if the percent signs are not those of an encoding. */
function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return '';
  }
}
