/** The arms of a market: what each estimates with, explores with and learns from. */

import { float32At, uint32At } from '../../../shared/base/arrays.js';
import type { MarketConfig } from '../../../shared/config/market-config.js';
import { LiveAdaptation } from '../../market/live-adaptation.js';
import { LiveBundle } from '../../market/live-bundle.js';
import type { MarketArm } from '../../market/arm-outcome.js';
import type { MarketServing, ServedArm } from '../../market/arm-serving.js';
import type { AuctionStream } from '../../market/world/auction-stream.js';
import { encodedMarketOf, type EncodedMarket } from '../../market/world/encoded-market.js';
import type { MarketWorld } from '../../market/world/market-world.js';
import type { RunContext } from '../call/run-context.js';
import { openPreparedRun, savedMetaParametersOf } from '../run-files.js';
import type { MarketRuns, TrainedBundle } from './market-models.js';

interface ArmSource {
  readonly config: MarketConfig;
  readonly market: MarketWorld;
  readonly auctions: AuctionStream;
  readonly runs: MarketRuns;
  readonly bundles: Readonly<Record<keyof MarketRuns, TrainedBundle>>;
  readonly serving: MarketServing;
}

export async function servedArmOf(
  arm: MarketArm,
  source: ArmSource,
  context: RunContext,
): Promise<ServedArm> {
  const { market, auctions, bundles, config, serving } = source;
  if (arm === 'oracle') return oracleOf(auctions);
  const { digest, loaded } = bundles[arm === 'global' ? 'global' : 'qianmo'];
  const bundle = new LiveBundle(digest, loaded, market.adgroupCount);
  const encoded = encodedMarketOf(market, auctions, loaded);
  const estimate = estimatesOf(source, bundle, encoded);
  if (arm === 'global') return { bundle: digest, estimate, explorer: null, refresh: null };
  const adaptation = await adaptationOf(source, encoded, context);
  const { exploration } = config;
  return {
    bundle: digest,
    estimate,
    refresh: (adgroups) => adaptation.refresh(bundle, adgroups),
    explorer:
      arm === 'qianmo'
        ? null
        : {
            settings: exploration,
            ...serving.openExploration(exploration),
            loggedImpressionsOf: (adgroup) => bundle.loggedImpressionsOf(adgroup),
          },
  };
}

function oracleOf({ candidateCounts, candidatesMax, truth }: AuctionStream): ServedArm {
  return {
    ...{ bundle: 'truth', explorer: null, refresh: null },
    estimate: (auction, probabilities) => {
      const first = auction * candidatesMax;
      const count = uint32At(candidateCounts, auction);
      probabilities.set(truth.subarray(first, first + count));
    },
  };
}

function estimatesOf(
  { auctions, serving }: ArmSource,
  bundle: LiveBundle,
  encoded: EncodedMarket,
): ServedArm['estimate'] {
  const { candidates, candidateCounts, candidatesMax } = auctions;
  const scorer = serving.scorerOf(bundle, encoded, candidatesMax);
  const logits = new Float32Array(candidatesMax);
  return (auction, probabilities) => {
    const first = auction * candidatesMax;
    const adgroups = candidates.subarray(first, first + uint32At(candidateCounts, auction));
    scorer.score(auction, adgroups, logits);
    for (let place = 0; place < adgroups.length; place += 1)
      probabilities[place] = bundle.probabilityOf(
        uint32At(adgroups, place),
        float32At(logits, place),
      );
  };
}

async function adaptationOf(
  { config, runs }: ArmSource,
  encoded: EncodedMarket,
  context: RunContext,
): Promise<LiveAdaptation> {
  const run = await openPreparedRun(runs.qianmo, context);
  const saved = await savedMetaParametersOf(run, context);
  if (saved === null) throw new Error('the run of a market has a checkpoint');
  return LiveAdaptation.open({
    ...{ run, parameters: saved.metaParameters, caller: context, encoded },
    compute: await context.machine.openCompute(context),
    rowsMax: config.refresh.rowsMax,
  });
}
