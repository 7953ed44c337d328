/**
 * The chooser of a slate: exploitation everywhere, and exploration in the declared slots. Pure: a decision follows
 * from its input, seed included, so that a record replays it bit for bit, or is judged under other settings.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
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
import { chancesOf, policyOf, type Chances } from './policies.js';

/** Exploration of one class of advertisers in one slot. */
interface Group {
  /** Places in the list of candidates. */
  readonly members: readonly number[];
  readonly share: number;
  /** Computed when asked for, since simulated ones take long. */
  readonly chances: () => Chances;
  /** The place of the candidate that the policy chooses, if this group explores. */
  readonly choice: number;
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
      ...propensityOf(chosen, chances),
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
    const chances = input.candidates.map((_, place) => propensityOf(place, slot).propensity);
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
function propensityOf(
  candidate: number,
  { incumbent, groups }: SlotChances,
): Pick<DecidedSlot, 'propensity' | 'propensityError'> {
  const explored = groups.reduce((sum, { share }) => sum + share, 0);
  let propensity = candidate === incumbent ? 1 - explored : 0;
  let propensityError = 0;
  for (const { members, share, chances } of groups) {
    const place = members.indexOf(candidate);
    if (place < 0 || share === 0) continue;
    const { values, standardErrorMax } = chances();
    propensity += share * float64At(values, place);
    propensityError += share * standardErrorMax;
  }
  return { propensity: Math.min(1, Math.max(0, propensity)), propensityError };
}

class Slate {
  readonly #input: DecisionInput;
  readonly #policy: ReturnType<typeof policyOf>;
  /** By value times probability, the largest first. Equal ones are in an order that the seed decides. */
  readonly #order: readonly number[];
  readonly placed = new Set<number>();

  constructor(input: DecisionInput) {
    const { candidates, settings, seed, id } = input;
    this.#input = input;
    this.#policy = policyOf(settings);
    this.#order = randomStream(seed, 'order', id)
      .shuffle(Array.from(candidates.keys()))
      .sort((a, b) => expectedValue(at(candidates, b)) - expectedValue(at(candidates, a)));
  }

  /** The distribution over the candidates that are not placed yet. */
  chancesAt(slot: number): SlotChances {
    const { candidates, settings } = this.#input;
    const left = this.#order.filter((candidate) => !this.placed.has(candidate));
    const incumbent = at(left, 0);
    if (settings.mode === 'off' || !settings.slots.includes(slot)) return { incumbent, groups: [] };
    const shareByClass = new Map(settings.classes.map(({ name, share }) => [name, share]));
    const membersByClass = new Map<string, number[]>();
    for (const place of left) {
      const candidate = at(candidates, place);
      if (!mayBeExplored(candidate, settings)) continue;
      const { advertiserClass } = candidate;
      const isKnown = advertiserClass !== null && shareByClass.has(advertiserClass);
      const name = isKnown ? advertiserClass : '';
      membersByClass.set(name, [...(membersByClass.get(name) ?? []), place]);
    }
    const incumbentValue = expectedValue(at(candidates, incumbent));
    const groups = [...membersByClass].map(([name, members]) =>
      this.#group(members, {
        ...{ name, slot, incumbentValue },
        share: shareByClass.get(name) ?? settings.share,
      }),
    );
    const sum = groups.reduce((total, { share }) => total + share, 0);
    return {
      incumbent,
      groups: sum <= 1 ? groups : groups.map((group) => ({ ...group, share: group.share / sum })),
    };
  }

  #group(
    members: readonly number[],
    {
      name,
      slot,
      incumbentValue,
      share,
    }: {
      readonly name: string;
      readonly slot: number;
      /** The expected value of the slot without exploration. */
      readonly incumbentValue: number;
      readonly share: ExplorationShare;
    },
  ): Group {
    const { candidates, settings, seed, id, rounds } = this.#input;
    const own = members.map((member) => at(candidates, member));
    const { priorImpressions, propensities } = settings;
    const policyInput = { candidates: own, priorImpressions, rounds: Math.max(1, rounds) };
    const choice = this.#policy.choose(policyInput, randomStream(seed, 'choice', id, slot, name));
    let known: Chances | null = null;
    const chances = (): Chances =>
      (known ??= chancesOf(this.#policy, policyInput, choice, {
        draws: propensities.draws,
        stream: randomStream(seed, 'propensities', id, slot, name),
      }));
    return {
      ...{ members, chances, choice: at(members, choice) },
      share: exploredShare(share, own, chances, incumbentValue),
    };
  }
}

function expectedValue({ value, probability }: RankedCandidate): number {
  return value * probability;
}

function mayBeExplored(
  { impressions, learnedImpressions, ageSeconds }: RankedCandidate,
  { cutOff }: ExplorationConfig,
): boolean {
  return (
    impressions + learnedImpressions < cutOff.impressions &&
    (cutOff.ageSeconds === undefined || ageSeconds < cutOff.ageSeconds)
  );
}

/** The share of a slot that explores: fixed, or by the expected value that it gives away by the probabilities of the model. */
function exploredShare(
  share: ExplorationShare,
  candidates: readonly RankedCandidate[],
  chances: () => Chances,
  incumbentValue: number,
): number {
  if (share.kind === 'fixed') return share.share;
  const { values } = chances();
  const loss = candidates.reduce(
    (sum, candidate, index) =>
      sum + float64At(values, index) * (incumbentValue - expectedValue(candidate)),
    0,
  );
  const lossMax = share.lossMax * incumbentValue;
  return loss <= 0 ? share.shareMax : Math.min(share.shareMax, lossMax / loss);
}

/** A group explores with its share; otherwise the slot exploits. */
function drawnFrom({ incumbent, groups }: SlotChances, stream: RandomStream): number {
  let left = stream.uniform();
  for (const { share, choice } of groups) {
    left -= share;
    if (left < 0) return choice;
  }
  return incumbent;
}
