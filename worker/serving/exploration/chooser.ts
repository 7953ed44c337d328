/**
 * The chooser of a slate: exploitation everywhere, and exploration in the declared slots. Pure: a decision follows
 * from its input, seed included, so that a record replays it bit for bit.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import type {
  DecidedSlot,
  Decision,
  DecisionInput,
  RankedCandidate,
} from '../../../shared/exploration/decision-record.js';
import { knownImpressions } from './candidate.js';
import { exploredShare } from './explored-share.js';
import { policyOf } from './policies.js';
import { chancesOf, type Chances, type Context, type Policy } from './policy.js';
import { strengthForShare } from './prior-strength.js';

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
  const { seed, id, settings } = input;
  const stream = randomStream(seed, 'exploration', id);
  const slate = openSlate(input);
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
    slate.place(chosen);
  }
  return { kind: 'decision', input, isShown: settings.mode !== 'apprentice', decided };
}

interface Slate {
  /** Over the candidates that are not placed yet. */
  chancesAt(slot: number): SlotChances;
  /** The same as a probability of each candidate, `[candidateCount]`. */
  distributionAt(slot: number): Float64Array;
  place(candidate: number): void;
}

type Propensity = Pick<DecidedSlot, 'propensity' | 'propensityError'>;

/** The probability of a candidate in a slot. */
function propensityOf(candidate: number, { incumbent, groups }: SlotChances): Propensity {
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

/** @param input decides everything; the caller places candidates, as they were drawn or as a log has them. */
export function openSlate(input: DecisionInput): Slate {
  const { candidates, settings, seed, id } = input;
  const policy = policyOf(settings);
  const order = exploitationOrder(candidates, randomStream(seed, 'order', id));
  const placed = new Set<number>();
  const declared = new Set(settings.mode === 'off' ? [] : settings.slots);
  const chancesAt = (slot: number): SlotChances => {
    const incumbent = order.find((candidate) => !placed.has(candidate));
    if (incumbent === undefined) throw new Error('every candidate is placed');
    if (!declared.has(slot)) return { incumbent, groups: [] };
    const eligible = order.filter(
      (candidate) => !placed.has(candidate) && mayBeExplored(at(candidates, candidate), settings),
    );
    return { incumbent, groups: groupsOf({ input, policy, incumbent, slot }, eligible) };
  };
  return {
    chancesAt,
    distributionAt: (slot) => {
      const chances = chancesAt(slot);
      return Float64Array.from(candidates, (_, place) => propensityOf(place, chances).propensity);
    },
    place: (candidate) => placed.add(candidate),
  };
}

/** By value times probability, the largest first. Equal ones are in an order that the seed decides. */
function exploitationOrder(
  candidates: readonly RankedCandidate[],
  stream: RandomStream,
): readonly number[] {
  const order = stream.shuffle(Array.from(candidates, (_, index) => index));
  return order.sort((a, b) => expectedValue(at(candidates, b)) - expectedValue(at(candidates, a)));
}

function expectedValue({ value, probability }: RankedCandidate): number {
  return value * probability;
}

function mayBeExplored(candidate: RankedCandidate, { cutOff }: DecisionInput['settings']): boolean {
  return (
    knownImpressions(candidate) < cutOff.impressions &&
    (cutOff.ageSeconds === undefined || candidate.ageSeconds < cutOff.ageSeconds)
  );
}

interface SlotInput {
  readonly input: DecisionInput;
  readonly policy: Policy;
  readonly incumbent: number;
  readonly slot: number;
}

function groupsOf(slotInput: SlotInput, eligible: readonly number[]): Group[] {
  const { candidates, settings } = slotInput.input;
  const shareByClass = new Map(settings.classes.map(({ name, share }) => [name, share]));
  const membersByClass = new Map<string, number[]>();
  for (const candidate of eligible) {
    const { advertiserClass } = at(candidates, candidate);
    const known = advertiserClass !== null && shareByClass.has(advertiserClass);
    const group = known ? advertiserClass : '';
    const members = membersByClass.get(group);
    if (members === undefined) membersByClass.set(group, [candidate]);
    else members.push(candidate);
  }
  const groups = [...membersByClass].map(([group, members]) =>
    groupOf(slotInput, group, members, shareByClass.get(group) ?? settings.share),
  );
  const sum = groups.reduce((total, { share }) => total + share, 0);
  return sum <= 1 ? groups : groups.map((group) => ({ ...group, share: group.share / sum }));
}

function groupOf(
  { input, policy, incumbent, slot }: SlotInput,
  group: string,
  members: readonly number[],
  share: DecisionInput['settings']['share'],
): Group {
  const { candidates, settings, seed, id } = input;
  const own = members.map((member) => at(candidates, member));
  const incumbentValue = expectedValue(at(candidates, incumbent));
  const policyInput = {
    candidates: own,
    strengths: own.map((candidate) => strengthOf(candidate, incumbentValue, settings.prior)),
    rounds: Math.max(1, input.rounds),
    weight: settings.weight,
    context: contextOf(input.context, members),
  };
  const choice = policy.choose(policyInput, randomStream(seed, 'choice', id, slot, group));
  const chances = onDemand(() =>
    chancesOf(policy, policyInput, choice, {
      draws: settings.propensities.draws,
      stream: randomStream(seed, 'propensities', id, slot, group),
    }),
  );
  const scale = settings.policy === 'epsilon-greedy' ? settings.weight : 1;
  const explored = exploredShare(share, {
    candidates: own,
    chances: () => chances().values,
    incumbentValue,
    confidenceImpressions: settings.confidenceImpressions,
  });
  return {
    members,
    share: Math.min(1, scale * explored),
    chances,
    choice: at(members, choice),
  };
}

function onDemand<Value>(compute: () => Value): () => Value {
  let found: { readonly value: Value } | null = null;
  return () => (found ??= { value: compute() }).value;
}

function strengthOf(
  { value, probability }: RankedCandidate,
  incumbentValue: number,
  prior: DecisionInput['settings']['prior'],
): number {
  if (prior.kind === 'strength') return prior.impressions;
  return strengthForShare(prior.share, probability, incumbentValue / value, prior.impressionsMax);
}

function contextOf(context: DecisionInput['context'], members: readonly number[]): Context | null {
  if (context === null) return null;
  const of = <Value>(values: readonly Value[]): Value[] =>
    members.map((member) => at(values, member));
  return context.kind === 'linear'
    ? { kind: 'linear', means: of(context.means), deviations: of(context.deviations) }
    : {
        ...context,
        offsets: context.offsets === undefined ? undefined : of(context.offsets),
        features: of(context.features),
      };
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
