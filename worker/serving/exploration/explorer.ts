/**
 * Exploration in rankings: a slate is decided by the evidence of its candidates, and the decision is logged before it is
 * shown. What cannot be logged is not explored.
 */

import { at } from '../../../shared/base/arrays.js';
import type { Clock } from '../../../shared/base/clock.js';
import type { Decision, RankedCandidate } from '../../../shared/config/decision-record.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { SharedLog } from '../state/shared-log.js';
import { decide } from './chooser.js';
import type { DecisionLog } from './decision-log.js';
import type { EventIds } from './event-ids.js';
import type { Evidence, EvidenceLedger, Receipt } from './evidence-ledger.js';

export type EvidenceLog = SharedLog<EvidenceLedger, Receipt[]>;

interface ExplorerParts {
  readonly settings: ExplorationConfig;
  readonly evidence: Pick<EvidenceLog, 'state' | 'nowMs'>;
  readonly log: Pick<DecisionLog, 'append'>;
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
  /** Since the start of the process. */
  readonly counts = { decisions: 0, decidedSlots: 0, exploredSlots: 0 };

  constructor(parts: ExplorerParts) {
    this.#parts = parts;
  }

  get settings(): ExplorationConfig {
    return this.#parts.settings;
  }

  /** @throws QianmoError if the decision cannot be logged. */
  async explored({ bundle, seed, slotCount, candidates }: RankedSlate): Promise<ExploredSlate> {
    const { evidence, log, clock, nextDecision, settings } = this.#parts;
    const { state } = evidence;
    state.endWindows(evidence.nowMs());
    const known = candidates.map(({ adgroup }) => state.evidenceOf(adgroup));
    const epochMs = clock.epochMs();
    const decision = decide({
      ...{ id: nextDecision(epochMs), seed, epochMs, bundle, slots: slotCount, settings },
      rounds: known.reduce((sum, { impressions, open }) => sum + impressions + open, 0),
      candidates: candidates.map((candidate, place) =>
        candidateOf(candidate, at(known, place), epochMs),
      ),
    });
    await log.append([decision]);
    this.counts.decisions += 1;
    return this.#shownSlate(bundle, candidates, decision);
  }

  #shownSlate(
    bundle: string,
    candidates: readonly RankedPlace[],
    { isShown, input, decided }: Decision,
  ): ExploredSlate {
    const places = new Map(candidates.map(({ adgroup }, place) => [adgroup, place]));
    const slots = decided.map(({ adgroup, isExploration, propensity, propensityError }, index) => {
      // An apprentice shows the best ones.
      const choice = isShown
        ? { isExploration, propensity }
        : { isExploration: false, propensity: 1 };
      const place = isShown ? (places.get(adgroup) ?? NaN) : index;
      const shown = at(candidates, place);
      const { segment, probability } = shown;
      const event = this.#parts.ids.idOf({
        ...{ decision: input.id, slot: index + 1, adgroup: shown.adgroup },
        choice: { ...choice, bundle, segment, probability },
      });
      return { ...choice, place, event, propensityError: isShown ? propensityError : 0 };
    });
    this.counts.decidedSlots += slots.length;
    this.counts.exploredSlots += slots.filter(({ isExploration }) => isExploration).length;
    return {
      decision: input.id,
      shown: slots.map(({ place }) => place),
      events: slots.map(({ event }) => event),
      isExploration: slots.map(({ isExploration }) => isExploration),
      propensities: slots.map(({ propensity }) => propensity),
      propensityErrors: slots.map(({ propensityError }) => propensityError),
    };
  }
}

function candidateOf(
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
