/**
 * The contract between the server and what it answers: a path, the media types that its bodies have,
 * and a function from a received request to an answer. Limits on bodies, the token, the queue and the
 * deadline are the server's.
 */

import type { IncomingHttpHeaders } from 'node:http';
import type { BundleWish, KeptCanary } from '../bundle-choice.js';
import type { BundleKeeper } from './bundle-keeper.js';
import type { RequestReport } from './request-counts.js';
import type { ServedBundle } from './served-bundle.js';

/** The bundle that is served, and what is known of others. */
export type KeptBundle = Pick<
  BundleKeeper,
  'name' | 'current' | 'refused' | 'swapCount' | 'arrays'
>;
export interface ServingPlace {
  readonly place: number;
  readonly wanted: number;
  readonly ready: number;
}

/** What an answer may say of the server itself. */
export interface ServerView {
  readonly keeper: KeptBundle;
  /** Null where the server was started without one. */
  readonly canary: KeptCanary<ServedBundle> | null;
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
