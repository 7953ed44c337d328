/**
 * Exploration in rankings: the evidence of the candidates is read, a slate is decided, and the decision is logged before
 * it is shown. What cannot be logged is not explored.
 */

import { at } from '../../../shared/base/arrays.js';
import type { Clock } from '../../../shared/base/clock.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type {
  Decision,
  DecisionInput,
  RankedCandidate,
} from '../../../shared/exploration/decision-record.js';
import type { Lesson } from '../../../shared/exploration/lesson.js';
import type { Evidence } from '../evidence/evidence-ledger.js';
import type { EvidenceStore } from '../evidence/evidence-store.js';
import { decide } from '../exploration/chooser.js';
import type { DecisionLog } from './decision-writer.js';
import type { EventIds } from './event-ids.js';
import { shownChoiceOf } from './shown-choice.js';
import {
  learningOf,
  lessonOf,
  LinearWeights,
  logisticWeights,
  logOddsOf,
  type LearnedNumbers,
  type Learning,
} from '../evidence/learned-weights.js';

interface ContextCandidate {
  readonly adgroup: string;
  readonly probability: number;
  /** Values of the columns that the policy learns from, with their names. */
  readonly values: readonly string[];
}

type ContextOf = (lessons: readonly Lesson[]) => DecisionInput['context'];

/** How long weights are used before they are read again. */
const WEIGHTS_AGE_MS_MAX = 200;

class LearnedContext {
  readonly #learning: Learning;
  readonly #evidence: Pick<EvidenceStore, 'learned'>;
  readonly #clock: Clock;
  #known: { readonly readMs: number; readonly contextOf: ContextOf } | null = null;

  private constructor(learning: Learning, evidence: Pick<EvidenceStore, 'learned'>, clock: Clock) {
    this.#learning = learning;
    this.#evidence = evidence;
    this.#clock = clock;
  }

  /** Null for policies that learn no weights. */
  static of(
    settings: ExplorationConfig,
    evidence: Pick<EvidenceStore, 'learned'>,
    clock: Clock,
  ): LearnedContext | null {
    const learning = learningOf(settings);
    return learning === null ? null : new LearnedContext(learning, evidence, clock);
  }

  /** What each candidate teaches if it is shown. */
  lessonsOf(candidates: readonly ContextCandidate[]): readonly Lesson[] {
    return candidates.map((candidate) =>
      lessonOf(this.#learning, candidate, candidate.probability),
    );
  }

  /** @throws QianmoError if the weights cannot be read. */
  async contextOf(lessons: readonly Lesson[]): Promise<DecisionInput['context']> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#known === null || nowMs - this.#known.readMs > WEIGHTS_AGE_MS_MAX) {
      const contextOf = contextBy(this.#learning, await this.#evidence.learned());
      this.#known = { readMs: nowMs, contextOf };
    }
    return this.#known.contextOf(lessons);
  }
}

/** What weights say of candidates by their lessons. */
export function contextBy(learning: Learning, numbers: LearnedNumbers): ContextOf {
  if (learning.kind === 'linear') {
    const weights = new LinearWeights(learning, numbers);
    return (lessons) => {
      const predicted = lessons.map((lesson) => weights.predicted(lesson));
      return {
        kind: 'linear',
        means: predicted.map(({ mean }) => mean),
        deviations: predicted.map(({ deviation }) => deviation),
      };
    };
  }
  const { means: weights, precisions } = logisticWeights(learning, numbers);
  return (lessons) => ({
    ...{ kind: 'logistic', weights, precisions },
    offsets: lessons.map(({ probability }) => logOddsOf(probability)),
    features: lessons.map(({ places, dimension }) => {
      const features = new Array<number>(dimension).fill(0);
      for (const place of places) features[place] = 1 / Math.sqrt(places.length);
      return features;
    }),
  });
}

interface ExplorerParts {
  readonly settings: ExplorationConfig;
  readonly evidence: EvidenceStore;
  readonly log: DecisionLog;
  readonly ids: EventIds;
  readonly nextDecision: (nowMs: number) => string;
  readonly clock: Clock;
}

/** Candidates in order, the most valuable first. */
interface RankedSlate {
  readonly bundle: string;
  readonly seed: number;
  readonly slotCount: number;
  readonly candidates: readonly RankedPlace[];
}

export interface RankedPlace {
  readonly adgroup: string;
  /** What the order goes by: the value of a click times its probability, above 0. */
  readonly expectedValue: number;
  readonly probability: number;
  /** The segment whose label it predicts; null where tasks have none. */
  readonly segment: string | null;
  readonly learnedImpressions: number;
  readonly advertiserClass: string | null;
  /** Values of `weights.columns`, with their names. */
  readonly values: readonly string[];
}

export interface ExploredSlate {
  readonly decision: string;
  /** Places among the candidates, in the order of the slots that are shown. */
  readonly shown: readonly number[];
  /** The id of each slot's event, by which feedback names it. */
  readonly events: readonly string[];
  readonly isExploration: readonly boolean[];
  /** The probability that the slot shows what it shows, given the slots before. */
  readonly propensities: readonly number[];
  readonly propensityErrors: readonly number[];
}

const MS_PER_SECOND = 1_000;

export class Explorer {
  readonly #parts: ExplorerParts;
  readonly #learned: LearnedContext | null;
  #decisionCount = 0;
  #decidedSlotCount = 0;
  #exploredSlotCount = 0;

  constructor(parts: ExplorerParts) {
    this.#parts = parts;
    this.#learned = LearnedContext.of(parts.settings, parts.evidence, parts.clock);
  }

  get settings(): ExplorationConfig {
    return this.#parts.settings;
  }

  report(): object {
    const { mode, policy, slots } = this.#parts.settings;
    const { decisions, exploredSlots } = this.counts;
    return { mode, policy, slots, decisions, exploredSlots };
  }

  /** Since the start of the process. */
  get counts(): { decisions: number; decidedSlots: number; exploredSlots: number } {
    return {
      decisions: this.#decisionCount,
      decidedSlots: this.#decidedSlotCount,
      exploredSlots: this.#exploredSlotCount,
    };
  }

  /** @throws QianmoError if the evidence cannot be read or the decision cannot be logged. */
  async explored(slate: RankedSlate): Promise<ExploredSlate> {
    const { evidence, log, clock, nextDecision } = this.#parts;
    const known = await evidence.evidenceOf(slate.candidates.map(({ adgroup }) => adgroup));
    const lessons = this.#learned?.lessonsOf(slate.candidates) ?? null;
    const context = lessons === null ? null : ((await this.#learned?.contextOf(lessons)) ?? null);
    const epochMs = clock.epochMs();
    const given = { id: nextDecision(epochMs), epochMs, context };
    const decision = decide(this.#inputOf(slate, known, given));
    await log.append([decision]);
    this.#decisionCount += 1;
    return this.#slateOf(slate, decision, lessons);
  }

  #inputOf(
    { bundle, seed, slotCount, candidates }: RankedSlate,
    known: readonly Evidence[],
    { id, epochMs, context }: Pick<DecisionInput, 'id' | 'epochMs' | 'context'>,
  ): DecisionInput {
    return {
      ...{ id, seed, epochMs, bundle, slots: slotCount, context },
      rounds: known.reduce((sum, { impressions, open }) => sum + impressions + open, 0),
      candidates: candidates.map((candidate, place) =>
        decidedOn(candidate, at(known, place), epochMs),
      ),
      settings: this.#parts.settings,
    };
  }

  #slateOf(
    slate: RankedSlate,
    { isShown, input, decided }: Decision,
    lessons: readonly Lesson[] | null,
  ): ExploredSlate {
    const places = new Map(slate.candidates.map(({ adgroup }, place) => [adgroup, place]));
    const placeOf = (adgroup: string): number => places.get(adgroup) ?? NaN;
    // An apprentice shows the best ones.
    const shown = decided.map(({ adgroup }, slot) => (isShown ? placeOf(adgroup) : slot));
    const isExploration = decided.map((slot) => isShown && slot.isExploration);
    this.#decidedSlotCount += decided.length;
    this.#exploredSlotCount += isExploration.filter(Boolean).length;
    const propensities = decided.map(({ propensity }) => (isShown ? propensity : 1));
    return {
      ...{ decision: input.id, shown, isExploration },
      events: shown.map((place, slot) => {
        const { adgroup, segment, probability } = at(slate.candidates, place);
        const lesson = lessons === null ? null : at(lessons, place);
        const choice = shownChoiceOf(slate.bundle, {
          ...{ segment, probability, isExploration: at(isExploration, slot) },
          propensity: at(propensities, slot),
        });
        return this.#parts.ids.idOf({
          decision: input.id,
          slot: slot + 1,
          adgroup,
          choice,
          lesson,
        });
      }),
      propensities,
      propensityErrors: decided.map(({ propensityError }) => (isShown ? propensityError : 0)),
    };
  }
}

function decidedOn(
  { adgroup, expectedValue, probability, learnedImpressions, advertiserClass }: RankedPlace,
  { impressions, rewards, firstMs }: Evidence,
  nowMs: number,
): RankedCandidate {
  return {
    ...{ adgroup, probability, impressions, rewards, learnedImpressions, advertiserClass },
    value: expectedValue / probability,
    ageSeconds: firstMs === null ? 0 : Math.max(0, nowMs - firstMs) / MS_PER_SECOND,
  };
}
