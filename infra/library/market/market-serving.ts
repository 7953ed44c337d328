/** Joins the market, which the coordinator simulates, with what ranks and explores in a server. */

import { scoringAddon } from '#bootstrap/serving/scoring-addon.mjs';
import type { MarketServing } from '../../../coordinator/market/arm-serving.js';
import { EncodedAhead } from '../../../worker/serving/encoded-ahead.js';
import { EvidenceLedger } from '../../../worker/serving/evidence/evidence-ledger.js';
import { decide } from '../../../worker/serving/exploration/chooser.js';
import { chosenScorer, demandCovered } from '../../../worker/serving/server/scorer-choice.js';

export function marketServing(): MarketServing {
  const choice = chosenScorer(scoringAddon.path());
  return {
    scorer: choice.name,
    decide,
    openEvidence: (settings) => new EvidenceLedger(settings),
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
