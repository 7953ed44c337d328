/** What a bundle says of candidates: scores, calibrated by what their blocks are, in arrays that are used again. */

import { float32At, float64At, int32At, uint8At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import type { LiveCandidates } from './live-blocks.js';
import type { ColumnsAddon } from '../columns/native-columns.js';
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
  readonly #addon: Pick<ColumnsAddon, 'calibrate'> | null;
  readonly #slopes: Float64Array;
  readonly #offsets: Float64Array;
  /** Numbers by label; the mean and the deviation of a probability are not read. */
  readonly #ofLabels: LabelNumbers;
  #room = allocated(ROOM_MIN);
  /** Views of the room, those of the last request: the next one has as many candidates, most often. */
  #last = allocated(0);

  constructor(
    bundle: Pick<LoadedBundle, 'manifest' | 'labels' | 'calibrations'>,
    addon: Pick<ColumnsAddon, 'calibrate'> | null,
  ) {
    this.#bundle = bundle;
    this.#addon = addon;
    const { calibrations } = bundle.manifest;
    this.#slopes = Float64Array.from(calibrations, ({ slope }) => slope);
    this.#offsets = Float64Array.from(calibrations, ({ offset }) => offset);
    this.#ofLabels = labelNumbersOf(bundle.manifest.labels);
  }

  /** Arrays of this length, of which blocks, hashes and scores are to be filled. */
  begin(candidateCount: number): Estimates {
    if (candidateCount === this.#last.candidateCount) return this.#last;
    if (candidateCount > this.#room.candidateCount) this.#room = allocated(candidateCount);
    const { hashes, blocks, scores, expected, labels } = this.#room;
    this.#last = {
      candidateCount,
      hashes: hashes.subarray(0, 2 * candidateCount),
      blocks: blocks.subarray(0, candidateCount),
      scores: scores.subarray(0, candidateCount),
      expected: expected.subarray(0, candidateCount),
      labels: labels.subarray(0, candidateCount),
    };
    return this.#last;
  }

  /** Fills in what follows from blocks and scores. */
  complete(estimates: Estimates, live: LiveCandidates | null): void {
    const { candidateCount, expected, labels } = estimates;
    const { areAll, isProbability, means, deviations } = this.#ofLabels;
    this.#calibrate(estimates);
    // The addon has taken the sigmoid of all others.
    const isDone = areAll && this.#addon !== null;
    for (const [candidate, { calibration, label }] of live ?? []) {
      const calibrated = this.#calibrated(calibration, float32At(estimates.scores, candidate));
      expected[candidate] = isDone ? sigmoid(calibrated) : calibrated;
      labels[candidate] = label;
    }
    if (isDone) return;
    for (let candidate = 0; candidate < candidateCount; candidate += 1) {
      const calibrated = float64At(expected, candidate);
      const label = int32At(labels, candidate);
      expected[candidate] =
        uint8At(isProbability, label) === 1
          ? sigmoid(calibrated)
          : float64At(means, label) + float64At(deviations, label) * calibrated;
    }
  }

  /** Writes labels, and calibrated scores in place of what is expected; the addon their sigmoid where all are probabilities. */
  #calibrate({ candidateCount, blocks, scores, expected, labels }: Estimates): void {
    const { labels: labelsOfBlocks, calibrations } = this.#bundle;
    const [slopes, offsets] = [this.#slopes, this.#offsets];
    if (this.#addon !== null) {
      const ofBlocks = [calibrations, labelsOfBlocks, slopes, offsets] as const;
      const ofLabels = [this.#bundle.manifest.labels.length, this.#ofLabels.areAll] as const;
      this.#addon.calibrate(blocks, scores, ...ofBlocks, ...ofLabels, labels, expected);
      return;
    }
    for (let candidate = 0; candidate < candidateCount; candidate += 1) {
      const block = int32At(blocks, candidate);
      const score = float32At(scores, candidate);
      expected[candidate] = this.#calibrated(int32At(calibrations, block), score);
      labels[candidate] = int32At(labelsOfBlocks, block);
    }
  }

  #calibrated(calibration: number, score: number): number {
    return float64At(this.#slopes, calibration) * score + float64At(this.#offsets, calibration);
  }
}

interface LabelNumbers {
  /** True if all are probabilities. */
  readonly areAll: boolean;
  readonly isProbability: Uint8Array;
  readonly means: Float64Array;
  readonly deviations: Float64Array;
}

function labelNumbersOf(labels: LoadedBundle['manifest']['labels']): LabelNumbers {
  return {
    areAll: labels.every(({ loss }) => loss === 'binary'),
    isProbability: Uint8Array.from(labels, ({ loss }) => Number(loss === 'binary')),
    means: Float64Array.from(labels, (label) => (label.loss === 'binary' ? NaN : label.mean)),
    deviations: Float64Array.from(labels, (label) =>
      label.loss === 'binary' ? NaN : label.deviation,
    ),
  };
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
