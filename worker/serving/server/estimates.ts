/** What a bundle says of candidates: scores, calibrated by what their blocks are, in arrays that are used again. */

import { at, float32At, float64At, int32At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import type { LiveCandidates } from '../adaptation/live-blocks.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';

/** Arrays with an element for each candidate. */
export interface Estimates {
  readonly candidateCount: number;
  /** `[candidateCount, 2]`: low and high word of the hash of the adgroup's key, under seed 0. */
  readonly hashes: Uint32Array;
  /** 0 for an unknown adgroup. */
  readonly blocks: Int32Array;
  /** The output of the scorer. */
  readonly scores: Float32Array;
  /** What a bid is multiplied by: the probability, or the expected value. */
  readonly expected: Float64Array;
  /** The place of the block's label in the manifest. */
  readonly labels: Int32Array;
  /** Candidates whose blocks adapted while serving; absent if there are none. */
  readonly live?: LiveCandidates;
}

/** Candidates that there is room for at first. */
const ROOM_MIN = 512;

export class Estimator {
  readonly #bundle: Pick<LoadedBundle, 'manifest' | 'labels' | 'calibrations'>;
  readonly #slopes: Float64Array;
  readonly #offsets: Float64Array;
  #room = allocated(ROOM_MIN);

  constructor(bundle: Pick<LoadedBundle, 'manifest' | 'labels' | 'calibrations'>) {
    this.#bundle = bundle;
    const { calibrations } = bundle.manifest;
    this.#slopes = Float64Array.from(calibrations, ({ slope }) => slope);
    this.#offsets = Float64Array.from(calibrations, ({ offset }) => offset);
  }

  /** Arrays of this length, of which blocks, hashes and scores are to be filled. */
  begin(candidateCount: number): Estimates {
    if (candidateCount > this.#room.candidateCount) this.#room = allocated(candidateCount);
    const { hashes, blocks, scores, expected, labels } = this.#room;
    return {
      candidateCount,
      hashes: hashes.subarray(0, 2 * candidateCount),
      blocks: blocks.subarray(0, candidateCount),
      scores: scores.subarray(0, candidateCount),
      expected: expected.subarray(0, candidateCount),
      labels: labels.subarray(0, candidateCount),
    };
  }

  /** Fills in what follows from blocks and scores. */
  complete(
    { candidateCount, blocks, scores, expected, labels }: Estimates,
    live: LiveCandidates | null,
  ): void {
    const { manifest, labels: labelOfBlock, calibrations } = this.#bundle;
    for (let candidate = 0; candidate < candidateCount; candidate += 1) {
      const block = int32At(blocks, candidate);
      const own = live?.get(candidate);
      const calibration = own?.calibration ?? int32At(calibrations, block);
      const calibrated =
        float64At(this.#slopes, calibration) * float32At(scores, candidate) +
        float64At(this.#offsets, calibration);
      const label = own?.label ?? int32At(labelOfBlock, block);
      labels[candidate] = label;
      const known = at(manifest.labels, label);
      expected[candidate] =
        known.loss === 'binary' ? sigmoid(calibrated) : known.mean + known.deviation * calibrated;
    }
  }
}

function allocated(candidateCount: number): Estimates {
  return {
    candidateCount,
    hashes: new Uint32Array(2 * candidateCount),
    blocks: new Int32Array(candidateCount),
    scores: new Float32Array(candidateCount),
    expected: new Float64Array(candidateCount),
    labels: new Int32Array(candidateCount),
  };
}
