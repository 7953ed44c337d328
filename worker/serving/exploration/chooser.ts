/**
 * The chooser of a slate: exploitation everywhere, and exploration in the declared slots. Pure: a decision follows
 * from its input, seed included, so that a record replays it bit for bit, or is judged under other settings.
 */

import { at, float64At, int32At } from '../../../shared/base/arrays.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import type {
  ExplorationConfig,
  ExplorationShare,
} from '../../../shared/config/exploration-config.js';
import type {
  DecidedSlot,
  Decision,
  DecisionInput,
  JudgedSlot,
  RankedCandidate,
} from '../../../shared/config/decision-record.js';
import { drawIndex, POLICIES } from './policies.js';

/** Exploration of one class of advertisers in one slot. */
interface Group {
  /** Places in the list of candidates. */
  readonly members: readonly number[];
  readonly share: number;
  /** Of the members, if this group explores; computed when asked for. */
  readonly chances: () => Float64Array;
}

/** The distribution of one slot, given the slots before. */
interface SlotChances {
  readonly incumbent: number;
  readonly groups: readonly Group[];
}

export function decide(input: DecisionInput): Decision {
  const stream = randomStream(input.seed, 'exploration', input.id);
  const slate = new Slate(input);
  const decided: DecidedSlot[] = [];
  const slotCount = Math.min(input.slots, input.candidates.length);
  for (let slot = 1; slot <= slotCount; slot += 1) {
    const chances = slate.chancesAt(slot);
    const chosen = drawnFrom(chances, stream);
    decided.push({
      adgroup: at(input.candidates, chosen).adgroup,
      isExploration: chosen !== chances.incumbent,
      propensity: propensityOf(chosen, chances),
    });
    slate.placed.add(chosen);
  }
  return { kind: 'decision', input, isShown: input.settings.mode !== 'apprentice', decided };
}

/** Returns whether the record's input gives the record, to the last bit of each propensity. */
export function isRepeatable(decision: Decision): boolean {
  return canonicalJson(decide(decision.input)) === canonicalJson(decision);
}

/**
 * The slots of a decision under other settings, given the slots before as they were logged. The weights are those
 * of Reward interaction IPS (McInerney et al., KDD 2020), the expectations those of Cascade-DR (Kiyohara et al.,
 * WSDM 2022).
 *
 * @param settings of the target policy; null for those of the record
 */
export function judgedSlots(
  { input, decided }: Decision,
  settings: ExplorationConfig | null,
): JudgedSlot[] {
  const slate = new Slate({ ...input, settings: settings ?? input.settings });
  const places = new Map(input.candidates.map(({ adgroup }, place) => [adgroup, place]));
  let weight = 1;
  return decided.map(({ adgroup, propensity }, index) => {
    const chosen = places.get(adgroup);
    if (chosen === undefined) throw new Error(`a decision names the unknown adgroup ${adgroup}`);
    const slot = slate.chancesAt(index + 1);
    const chances = input.candidates.map((_, place) => propensityOf(place, slot));
    const before = weight;
    weight *= at(chances, chosen) / propensity;
    slate.placed.add(chosen);
    const expectedOfTarget = input.candidates.reduce(
      (sum, { probability }, place) => sum + at(chances, place) * probability,
      0,
    );
    return {
      weight,
      expected: at(input.candidates, chosen).probability,
      expectedOfTarget: before * expectedOfTarget,
    };
  });
}

/** The probability of a candidate in a slot. */
function propensityOf(candidate: number, { incumbent, groups }: SlotChances): number {
  const explored = groups.reduce((sum, { share }) => sum + share, 0);
  let propensity = candidate === incumbent ? 1 - explored : 0;
  for (const { members, share, chances } of groups) {
    const place = share === 0 ? -1 : members.indexOf(candidate);
    if (place >= 0) propensity += share * float64At(chances(), place);
  }
  return Math.min(1, Math.max(0, propensity));
}

class Slate {
  readonly #input: DecisionInput;
  /** Values times probabilities. */
  readonly #worths: Float64Array;
  /** By worth, the largest first. Equal ones are in an order that the seed decides. */
  readonly #order: Int32Array;
  readonly placed = new Set<number>();

  constructor(input: DecisionInput) {
    const { candidates, seed, id } = input;
    this.#input = input;
    // Lists are quicker than typed arrays: they are filled without an iterator, and sorted sooner where they are in order.
    const worths = new Float64Array(
      candidates.map(({ value, probability }) => value * probability),
    );
    this.#worths = worths;
    const worthAt = (rank: number): number => float64At(worths, int32At(this.#order, rank));
    const places = candidates.map((_, place) => place);
    this.#order = new Int32Array(
      places.sort((a, b) => float64At(worths, b) - float64At(worths, a)),
    );
    let stream: RandomStream | null = null;
    for (let start = 0, end = 1; start < worths.length; start = end, end += 1) {
      while (end < worths.length && worthAt(end) === worthAt(start)) end += 1;
      if (end - start === 1) continue;
      stream ??= randomStream(seed, 'order', id);
      // In place.
      stream.shuffle(this.#order.subarray(start, end));
    }
  }

  /** The distribution over the candidates that are not placed yet. */
  chancesAt(slot: number): SlotChances {
    const { candidates, settings } = this.#input;
    const isLeft = (candidate: number): boolean => !this.placed.has(candidate);
    const incumbent = this.#order.find(isLeft) ?? NaN;
    if (settings.mode === 'off' || !settings.slots.includes(slot)) return { incumbent, groups: [] };
    const shareByClass = new Map(settings.classes.map(({ name, share }) => [name, share]));
    const membersByClass = new Map<string, number[]>();
    for (const place of this.#order) {
      const candidate = at(candidates, place);
      if (!mayBeExplored(candidate, settings) || !isLeft(place)) continue;
      const { advertiserClass } = candidate;
      const isKnown = advertiserClass !== null && shareByClass.has(advertiserClass);
      const name = isKnown ? advertiserClass : '';
      const members = membersByClass.get(name);
      if (members === undefined) membersByClass.set(name, [place]);
      else members.push(place);
    }
    const groups = [...membersByClass].map(([name, members]) =>
      this.#group(members, incumbent, shareByClass.get(name) ?? settings.share),
    );
    // Groups whose loss is bounded divide one bound, and all groups divide one slot.
    const usedSum = groups.reduce((sum, { lossUsed }) => sum + lossUsed, 0);
    const bounded = groups.map(({ share, lossUsed, ...group }) => ({
      ...group,
      share: lossUsed > 0 && usedSum > 1 ? share / usedSum : share,
    }));
    const sum = bounded.reduce((total, { share }) => total + share, 0);
    return {
      incumbent,
      groups: sum <= 1 ? bounded : bounded.map((group) => ({ ...group, share: group.share / sum })),
    };
  }

  #group(
    members: readonly number[],
    incumbent: number,
    share: ExplorationShare,
  ): Group & {
    /** The part of its bound on loss that the share uses. */ readonly lossUsed: number;
  } {
    const { candidates, settings, rounds } = this.#input;
    const { priorImpressions, policy } = settings;
    let known: Float64Array | null = null;
    const chances = (): Float64Array =>
      (known ??= POLICIES[policy]({
        candidates: members.map((member) => at(candidates, member)),
        ...{ priorImpressions, rounds: Math.max(1, rounds) },
      }));
    if (share.kind === 'fixed') return { members, chances, share: share.share, lossUsed: 0 };
    const incumbentWorth = float64At(this.#worths, incumbent);
    // By the probabilities of the model.
    const loss = members.reduce(
      (sum, member, index) =>
        sum + float64At(chances(), index) * (incumbentWorth - float64At(this.#worths, member)),
      0,
    );
    const bound = loss > 0 ? (share.lossMax * incumbentWorth) / loss : Infinity;
    const explored = Math.min(share.shareMax, bound);
    return { members, chances, share: explored, lossUsed: bound > 0 ? explored / bound : 0 };
  }
}

function mayBeExplored(
  { impressions, openImpressions, learnedImpressions, ageSeconds }: RankedCandidate,
  { cutOff }: ExplorationConfig,
): boolean {
  return (
    impressions + openImpressions + learnedImpressions < cutOff.impressions &&
    (cutOff.ageSeconds === undefined || ageSeconds < cutOff.ageSeconds)
  );
}

/** A group explores with its share; otherwise the slot exploits. */
function drawnFrom({ incumbent, groups }: SlotChances, stream: RandomStream): number {
  let left = stream.uniform();
  for (const { members, share, chances } of groups) {
    left -= share;
    if (left < 0) return at(members, drawIndex(chances(), stream));
  }
  return incumbent;
}
