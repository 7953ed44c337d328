/**
 * Two bundles on the same served rows: the difference of their losses per row, with an interval over adgroups, whose rows are not
 * independent of one another.
 */

import { float64At } from '../../shared/base/arrays.js';
import type { RawRow } from '../../shared/features/encoding-rules.js';

/** A shown candidate of a row log, and its feedback. */
export interface ServedRow extends LoggedCandidate {
  readonly click: number;
  /** The target of an adgroup that predicts values. */
  readonly value: number;
}

/** A candidate with the raw values that it was scored by. */
interface LoggedCandidate {
  readonly adgroup: string;
  readonly features: RawRow;
}

/** Scores logged candidates as a ranking server with the bundle does. */
export interface ServedScorer {
  score(context: RawRow, candidates: readonly LoggedCandidate[]): ServedPredictions;
  /** Frees what it has loaded. */
  close(): void;
}

/** By candidate. */
interface ServedPredictions {
  /** The probability or the expected value; NaN for a candidate that the bundle leaves out. */
  readonly expected: Float64Array;
  /** The deviation of the value that is predicted; NaN where it is a probability. */
  readonly deviations: Float64Array;
}

/** Keeps a loss finite where a probability was rounded to 0 or 1. */
const PROBABILITY_MIN = 1e-12;

/** The logloss, or the squared error in units of the deviation. */
export function lossesOf(
  { expected, deviations }: ServedPredictions,
  rows: readonly Pick<ServedRow, 'click' | 'value'>[],
): Float64Array {
  return Float64Array.from(rows, ({ click, value }, place) => {
    const [predicted, deviation] = [float64At(expected, place), float64At(deviations, place)];
    if (!Number.isNaN(deviation)) return ((predicted - value) / deviation) ** 2;
    const logOf = (probability: number): number => Math.log(Math.max(probability, PROBABILITY_MIN));
    return -click * logOf(predicted) - (1 - click) * logOf(1 - predicted);
  });
}

export interface PairedLosses {
  readonly rowCount: number;
  readonly adgroupCount: number;
  /** Per row, of the bundle and of the one that it is compared with. */
  readonly loss: number;
  readonly lossAgainst: number;
  /** The standard error of the difference; infinite for fewer than two adgroups. */
  readonly standardError: number;
}

/** Sums of rows that both bundles score. */
export class PairedSums {
  #rowCount = 0;
  #loss = 0;
  #lossAgainst = 0;
  readonly #ofAdgroups = new Map<string, { rowCount: number; difference: number }>();

  add(adgroup: string, loss: number, lossAgainst: number): void {
    if (!Number.isFinite(loss) || !Number.isFinite(lossAgainst)) return;
    this.#rowCount += 1;
    this.#loss += loss;
    this.#lossAgainst += lossAgainst;
    const own = this.#ofAdgroups.get(adgroup) ?? { rowCount: 0, difference: 0 };
    own.rowCount += 1;
    own.difference += loss - lossAgainst;
    this.#ofAdgroups.set(adgroup, own);
  }

  means(): PairedLosses {
    const [rowCount, adgroupCount] = [this.#rowCount, this.#ofAdgroups.size];
    const difference = (this.#loss - this.#lossAgainst) / rowCount;
    let squares = 0;
    for (const own of this.#ofAdgroups.values())
      squares += (own.difference - own.rowCount * difference) ** 2;
    const few = adgroupCount / (adgroupCount - 1);
    return {
      ...{ rowCount, adgroupCount },
      ...{ loss: this.#loss / rowCount, lossAgainst: this.#lossAgainst / rowCount },
      standardError: adgroupCount < 2 ? Infinity : Math.sqrt(few * squares) / rowCount,
    };
  }
}

/** Standard errors of an interval of 95 % that is looked at once. */
export const ONE_LOOK = 1.96;

/** The interval of the difference. */
export function intervalOf(
  { loss, lossAgainst, standardError }: PairedLosses,
  standardErrors: number,
): readonly [low: number, high: number] {
  const half = standardErrors * standardError;
  return [loss - lossAgainst - half, loss - lossAgainst + half];
}
