/** The slots and outcomes of a decision log in columns, joined by decision and slot. Either may come first. */

import type { Decision, JudgedSlot, Outcome } from '../../shared/exploration/decision-record.js';
import type { LoggedRows } from './estimates.js';

const FIRST_CAPACITY = 1024;

class NumberColumn<Values extends Int32Array | Float64Array> {
  readonly #make: (length: number) => Values;
  #values: Values;
  #length = 0;

  /** @param make returns an array of zeros. */
  constructor(make: (length: number) => Values) {
    this.#make = make;
    this.#values = make(FIRST_CAPACITY);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const grown = this.#make(2 * this.#length);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[this.#length] = value;
    this.#length += 1;
  }

  at(index: number): number {
    const value = index < this.#length ? this.#values[index] : undefined;
    if (value === undefined) throw new RangeError(`no row ${index} of ${this.#length}`);
    return value;
  }

  put(index: number, value: number): void {
    if (index >= this.#length) throw new RangeError(`no row ${index} of ${this.#length}`);
    this.#values[index] = value;
  }
}

function wholeNumbers(): NumberColumn<Int32Array> {
  return new NumberColumn((length) => new Int32Array(length));
}

function realNumbers(): NumberColumn<Float64Array> {
  return new NumberColumn((length) => new Float64Array(length));
}

const MS_PER_SECOND = 1000;
const NONE = -1;

interface JoinedSlots {
  readonly rows: LoggedRows;
  readonly immatureCount: number;
  readonly lateCount: number;
  /** Outcomes of slots that are not in the log. */
  readonly unknownCount: number;
}

/** Where a row of the result comes from. */
interface UsedSlot {
  readonly slot: number;
  readonly decision: number;
  readonly reward: number;
}

export class LoggedSlots {
  /** Decisions that a record or an outcome names, by order of appearance. */
  readonly #numbers = new Map<string, number>();
  /** By decision, the outcome that came last; by outcome, the one before it of the same decision. */
  readonly #lastOutcomes = wholeNumbers();
  readonly #outcomes = {
    ...{ before: wholeNumbers(), slot: wholeNumbers() },
    ...{ epochMs: realNumbers(), reward: realNumbers() },
  };
  readonly #records = {
    ...{ decision: wholeNumbers(), slotCount: wholeNumbers() },
    ...{ shownMs: realNumbers(), windowMs: realNumbers(), defaultReward: realNumbers() },
  };
  readonly #slots = {
    ...{ weight: realNumbers(), expected: realNumbers(), expectedOfTarget: realNumbers() },
  };

  get slotCount(): number {
    return this.#slots.weight.length;
  }

  addSlots({ input }: Decision, judged: readonly JudgedSlot[]): void {
    const { windowSeconds, defaultReward } = input.settings.feedback;
    this.#records.decision.push(this.#numberOf(input.id));
    this.#records.slotCount.push(judged.length);
    this.#records.shownMs.push(input.epochMs);
    this.#records.windowMs.push(windowSeconds * MS_PER_SECOND);
    this.#records.defaultReward.push(defaultReward);
    for (const { weight, expected, expectedOfTarget } of judged) {
      this.#slots.weight.push(weight);
      this.#slots.expected.push(expected);
      this.#slots.expectedOfTarget.push(expectedOfTarget);
    }
  }

  /** Returns false if the slot has an outcome already, which then stays. */
  addOutcome({ decision, slot, epochMs, reward }: Outcome): boolean {
    const number = this.#numberOf(decision);
    if (this.#outcomeOf(number, slot) !== NONE) return false;
    this.#outcomes.before.push(this.#lastOutcomes.at(number));
    this.#outcomes.slot.push(slot);
    this.#outcomes.epochMs.push(epochMs);
    this.#outcomes.reward.push(reward);
    this.#lastOutcomes.put(number, this.#outcomes.slot.length - 1);
    return true;
  }

  /** @param endMs the time of the last record of the log. */
  joined(endMs: number): JoinedSlots {
    const counts = { immatureCount: 0, lateCount: 0 };
    const known = new Uint8Array(this.#outcomes.slot.length);
    const used = {
      ...{ slot: wholeNumbers(), decision: wholeNumbers(), reward: realNumbers() },
    };
    for (const slot of this.#usedSlots(endMs, known, counts)) {
      used.slot.push(slot.slot);
      used.decision.push(slot.decision);
      used.reward.push(slot.reward);
    }
    const { weight, expected, expectedOfTarget } = this.#slots;
    const ofUsed = (column: ReturnType<typeof realNumbers>): Float64Array =>
      Float64Array.from({ length: used.slot.length }, (_, row) => column.at(used.slot.at(row)));
    const knownCount = known.reduce((sum, each) => sum + each, 0);
    return {
      rows: {
        decisions: this.#renumbered(used.decision),
        rewards: Float64Array.from({ length: used.reward.length }, (_, row) => used.reward.at(row)),
        weights: ofUsed(weight),
        model: { ofChoices: ofUsed(expected), ofTarget: ofUsed(expectedOfTarget) },
      },
      ...{ ...counts, unknownCount: known.length - knownCount },
    };
  }

  /** The slots whose reward is known, in the order of the log. */
  *#usedSlots(
    endMs: number,
    known: Uint8Array,
    counts: { immatureCount: number; lateCount: number },
  ): Generator<UsedSlot> {
    const { decision, slotCount, shownMs, windowMs, defaultReward } = this.#records;
    let firstSlot = 0;
    for (let record = 0; record < decision.length; record += 1) {
      const isImmature = endMs - shownMs.at(record) <= windowMs.at(record);
      for (let place = 0; place < slotCount.at(record); place += 1) {
        const outcome = this.#outcomeOf(decision.at(record), place + 1);
        const ageMs =
          outcome === NONE ? 0 : this.#outcomes.epochMs.at(outcome) - shownMs.at(record);
        const isLate = ageMs > windowMs.at(record);
        if (outcome !== NONE) known[outcome] = 1;
        if (isLate) counts.lateCount += 1;
        if (isImmature) counts.immatureCount += 1;
        else
          yield {
            ...{ slot: firstSlot + place, decision: decision.at(record) },
            reward:
              outcome === NONE || isLate
                ? defaultReward.at(record)
                : this.#outcomes.reward.at(outcome),
          };
      }
      firstSlot += slotCount.at(record);
    }
  }

  /** From 0 without a gap, in order of appearance. */
  #renumbered(decisions: ReturnType<typeof wholeNumbers>): Int32Array {
    const numbers = new Int32Array(this.#numbers.size).fill(NONE);
    let count = 0;
    return Int32Array.from({ length: decisions.length }, (_, row) => {
      const decision = decisions.at(row);
      if (numbers[decision] === NONE) numbers[decision] = count++;
      return numbers[decision] ?? NONE;
    });
  }

  #outcomeOf(decision: number, slot: number): number {
    let outcome = this.#lastOutcomes.at(decision);
    while (outcome !== NONE && this.#outcomes.slot.at(outcome) !== slot)
      outcome = this.#outcomes.before.at(outcome);
    return outcome;
  }

  #numberOf(decision: string): number {
    const known = this.#numbers.get(decision);
    if (known !== undefined) return known;
    this.#numbers.set(decision, this.#numbers.size);
    this.#lastOutcomes.push(NONE);
    return this.#numbers.size - 1;
  }
}
