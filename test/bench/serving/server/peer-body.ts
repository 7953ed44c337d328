/**
 * Requests and answers of the other servers: numbers alone, little-endian. A request has the ids of the context, the number of each candidate's
 * adgroup, its ids, feature after feature, and its bid; an answer the order and the values.
 */

import { CANDIDATE_COUNT, CANDIDATE_ROWS, CONTEXT_FEATURES } from '../kernel-setting.js';

const WORD = Int32Array.BYTES_PER_ELEMENT;

interface PeerRequest {
  readonly contextIds: readonly number[];
  readonly adgroups: readonly number[];
  /** Values by feature. */
  readonly candidateIds: readonly (readonly number[])[];
  readonly bids: readonly number[];
}

export function peerBody({ contextIds, adgroups, candidateIds, bids }: PeerRequest): Buffer {
  const words = Int32Array.from([...contextIds, ...adgroups, ...candidateIds.flat()]);
  return Buffer.concat([Buffer.from(words.buffer), Buffer.from(Float64Array.from(bids).buffer)]);
}

interface PeerInputs {
  /** Inputs of the converted model, an id for each candidate: those of the context are repeated. */
  readonly features: readonly (readonly [name: string, values: Int32Array])[];
  readonly bids: Float64Array;
}

export function peerInputs(body: Buffer): PeerInputs {
  const bytes = new Uint8Array(body).buffer;
  const count = CANDIDATE_COUNT;
  const contextCount = CONTEXT_FEATURES.length;
  const context = new Int32Array(bytes, 0, contextCount);
  const columnAt = (place: number): Int32Array =>
    new Int32Array(bytes, WORD * (contextCount + place * count), count);
  const bidsAt = WORD * (contextCount + (1 + CANDIDATE_ROWS.length) * count);
  return {
    features: [
      ['adgroup_index', columnAt(0)],
      ...CONTEXT_FEATURES.map(
        (name, place) => [name, new Int32Array(count).fill(context[place] ?? NaN)] as const,
      ),
      ...CANDIDATE_ROWS.map((_, place) => [`candidate${place}`, columnAt(1 + place)] as const),
    ],
    bids: new Float64Array(bytes, bidsAt, count),
  };
}

export function peerAnswer(order: Int32Array, values: Float64Array): Uint8Array {
  return Buffer.concat([Buffer.from(values.buffer), Buffer.from(order.buffer)]);
}

/** The values of an answer, by candidate. */
export function peerValues(answer: Uint8Array): Float64Array {
  return new Float64Array(Uint8Array.from(answer).buffer, 0, CANDIDATE_COUNT);
}
