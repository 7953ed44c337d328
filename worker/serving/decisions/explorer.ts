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
import { LearnedContext } from './learned-context.js';
import { shownChoiceOf } from './shown-choice.js';

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
