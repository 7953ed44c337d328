/** Joins the market, which the coordinator simulates, with what ranks and explores in a server. */

import { scoringAddon } from '#bootstrap/serving/scoring-addon.mjs';
import type { MarketServing } from '../../../coordinator/market/arm-serving.js';
import { contextBy } from '../../../worker/serving/decisions/learned-context.js';
import { EncodedAhead } from '../../../worker/serving/encoded-ahead.js';
import { EvidenceLedger } from '../../../worker/serving/evidence/evidence-ledger.js';
import {
  learningOf,
  lessonOf,
  type Learning,
} from '../../../worker/serving/evidence/learned-weights.js';
import { decide } from '../../../worker/serving/exploration/chooser.js';
import { chosenScorer, demandCovered } from '../../../worker/serving/server/scorer-choice.js';

export function marketServing(): MarketServing {
  const choice = chosenScorer(scoringAddon.path());
  return {
    scorer: choice.name,
    openExploration: (settings) => {
      const learning = learningOf(settings);
      const ledger = new EvidenceLedger(settings.feedback, learning);
      return { decide, ...(learning === null ? counting(ledger) : learningBy(learning, ledger)) };
    },
    scorerOf: ({ model, digest }, encoded, candidatesMax) => {
      demandCovered(choice, model, digest);
      const ahead = new EncodedAhead(model.spec, encoded, candidatesMax);
      const scorer = choice.scorerOf(model, encoded.contextFeatures);
      return {
        score: (auction, adgroups, logits) =>
          scorer.score(ahead.request(auction, adgroups), logits),
      };
    },
  };
}

type Taught = Pick<ReturnType<MarketServing['openExploration']>, 'evidence' | 'learned'>;

function counting(ledger: EvidenceLedger): Taught {
  return { evidence: ledger, learned: null };
}

/** Weights are read anew when feedback has arrived. */
function learningBy(learning: Learning, ledger: EvidenceLedger): Taught {
  let known: ReturnType<typeof contextBy> | null = null;
  return {
    evidence: {
      take: (events, nowMs) => {
        known = null;
        return ledger.take(events, nowMs);
      },
      evidenceOf: (adgroup) => ledger.evidenceOf(adgroup),
    },
    learned: {
      lessonOf: (candidate) => lessonOf(learning, candidate, candidate.probability),
      contextOf: (lessons) => (known ??= contextBy(learning, ledger.learned()))(lessons),
    },
  };
}
