/** The arms of a market: their estimates, their exploration and their adaptation. */

import { scoringAddon } from '#bootstrap/native-addons.mjs';
import { float32At, uint32At } from '../../../shared/base/arrays.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { RunContext } from '../../../coordinator/runs/run-context.js';
import { openPreparedRun } from '../../../coordinator/runs/run-files.js';
import { requireCovered } from '../../../worker/serving/scoring-plan.js';
import { KernelScorer, loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';
import { EvidenceLedger } from '../../../worker/serving/exploration/evidence-ledger.js';
import type { MarketScene } from './auction.js';
import type { AuctionStream } from './auction-stream.js';
import { EncodedAhead, encodedMarketOf, type EncodedMarket } from './encoded-market.js';
import { LiveAdaptation, LiveBundle, type ShownAdgroup } from './live-adaptation.js';

/** Counts impressions and rewards, each once, when they have settled. */
export type Evidence = Pick<EvidenceLedger, 'take' | 'evidenceOf'>;

/** Exploration as a ranking server has it. */
export interface Explorer {
  readonly evidence: Evidence;
  readonly settings: ExplorationConfig;
  /** Impressions of the log that the block of an adgroup rests on. */
  readonly loggedImpressionsOf: (adgroup: number) => number;
}

export interface ServedArm {
  /** Digest of the bundle; `truth` for the oracle. */
  readonly bundle: string;
  /** Writes the probability of a click of each candidate of an auction. */
  estimate(auction: number, probabilities: Float64Array): void;
  /** Null for an arm that only exploits. */
  readonly explorer: Explorer | null;
  /** Learns from rows of the market, and returns the adgroups that have; null for an arm that does not learn. */
  readonly refresh: ((adgroups: readonly ShownAdgroup[]) => Promise<readonly number[]>) | null;
}

export interface TrainedModel {
  readonly config: RunConfig;
  readonly digest: string;
  readonly loaded: LoadedBundle;
}

const addon = loadScoringAddon(scoringAddon.path());

export function oracleOf({ candidateCounts, candidatesMax, truth }: AuctionStream): ServedArm {
  return {
    ...{ bundle: 'truth', explorer: null, refresh: null },
    estimate: (auction, probabilities) => {
      const first = auction * candidatesMax;
      const count = uint32At(candidateCounts, auction);
      probabilities.set(truth.subarray(first, first + count));
    },
  };
}

/** An arm that serves one model, whose blocks neither adapt nor explore. */
export function globalOf(scene: MarketScene, { digest, loaded }: TrainedModel): ServedArm {
  const bundle = new LiveBundle(digest, loaded, scene.market.adgroupCount);
  const encoded = encodedMarketOf(scene.market, scene.auctions, loaded);
  const estimate = estimatesOf(scene.auctions, bundle, encoded);
  return { bundle: digest, estimate, explorer: null, refresh: null };
}

/** An arm whose blocks adapt, and which explores by the settings unless they are null. */
export async function adaptingArmOf(
  { market, auctions, settings: { refresh } }: MarketScene,
  { config, digest, loaded }: TrainedModel,
  exploration: ExplorationConfig | null,
  context: RunContext,
): Promise<ServedArm> {
  const bundle = new LiveBundle(digest, loaded, market.adgroupCount);
  const encoded = encodedMarketOf(market, auctions, loaded);
  const run = await openPreparedRun(config, context);
  const compute = await context.machine.openCompute(context);
  const adaptation = await LiveAdaptation.open({
    ...{ store: run.store, executor: await compute.executorOn(run.store) },
    ...{ digest, loaded, encoded, rowsMax: refresh.rowsMax },
  });
  return {
    bundle: digest,
    estimate: estimatesOf(auctions, bundle, encoded),
    refresh: (adgroups) => adaptation.refresh(bundle, adgroups),
    explorer: exploration && {
      settings: exploration,
      evidence: new EvidenceLedger(exploration.feedback),
      loggedImpressionsOf: (adgroup) => bundle.loggedImpressionsOf(adgroup),
    },
  };
}

function estimatesOf(
  { candidates, candidateCounts, candidatesMax }: AuctionStream,
  bundle: LiveBundle,
  encoded: EncodedMarket,
): ServedArm['estimate'] {
  const score = scorerOf(bundle, encoded, candidatesMax);
  const logits = new Float32Array(candidatesMax);
  return (auction, probabilities) => {
    const first = auction * candidatesMax;
    const adgroups = candidates.subarray(first, first + uint32At(candidateCounts, auction));
    score(auction, adgroups, logits);
    for (let place = 0; place < adgroups.length; place += 1)
      probabilities[place] = bundle.probabilityOf(
        uint32At(adgroups, place),
        float32At(logits, place),
      );
  };
}

/** Writes the logit of each adgroup in the context of an auction. */
function scorerOf(
  { model, digest }: LiveBundle,
  encoded: EncodedMarket,
  candidatesMax: number,
): (auction: number, adgroups: Uint32Array, logits: Float32Array) => void {
  requireCovered(model, digest);
  const ahead = new EncodedAhead(model.spec, encoded, candidatesMax);
  const scorer = new KernelScorer(addon, model, encoded.contextFeatures);
  return (auction, adgroups, logits) => scorer.score(ahead.request(auction, adgroups), logits);
}
