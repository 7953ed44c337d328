/** One seed of the market: its log, its trained models, and every arm on the same auctions. */

import { rm } from 'node:fs/promises';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import type { RunContext } from '../../../coordinator/runs/run-context.js';
import { openRunContext } from '../../../coordinator/runs/run-handle.js';
import { evaluateRun } from '../../../coordinator/runs/evaluate-run.js';
import { exportRun } from '../../../coordinator/runs/export-run.js';
import { objectStoreAt } from '../../../coordinator/runs/places.js';
import { openPreparedRun } from '../../../coordinator/runs/run-files.js';
import { factsOf } from '../../../coordinator/runs/sweep-run.js';
import type { DataFacts } from '../../../coordinator/sweep/search-space.js';
import { prepareRun } from '../../../coordinator/runs/prepare-run.js';
import { REQUESTS } from '../../../coordinator/runs/requests.js';
import { trainRun } from '../../../coordinator/runs/train-run.js';
import type { ArmOutcome } from './arm-outcome.js';
import { sceneOf } from './auction.js';
import {
  logBeforeIn,
  runConfigOf,
  type MarketSettings,
  type ModelName,
} from './market-settings.js';
import { marketWorldOf, writeLogBefore } from './market-world.js';
import type { SeedOutcome } from './seed-measures.js';
import { adaptingArmOf, globalOf, oracleOf, type TrainedModel } from './served-arms.js';
import { simulateArm } from './simulate-arm.js';

/** An arm of qianmo explores by changed settings, or not at all. */
type Arm = 'global' | 'oracle' | { readonly exploring: Exploring | null };
type Exploring = Partial<Pick<ExplorationConfig, 'policy'>>;
type Arms = Readonly<Record<string, Arm>>;

export const MARKET_ARMS: Arms = {
  global: 'global',
  qianmo: { exploring: null },
  'qianmo-exploring': { exploring: {} },
  oracle: 'oracle',
};

/** The oracle shows which new adgroups are good. */
export const POLICY_ARMS: Arms = {
  qianmo: { exploring: null },
  'epsilon-greedy': { exploring: { policy: 'epsilon-greedy' } },
  ucb: { exploring: { policy: 'ucb' } },
  thompson: { exploring: { policy: 'thompson' } },
  oracle: 'oracle',
};

interface SeedWork {
  readonly settings: MarketSettings;
  readonly arms: Arms;
  readonly seed: number;
  /** Holds the log and the runs of the seed. */
  readonly folder: string;
}

export async function seedOutcomeOf(
  { settings, arms, seed, folder }: SeedWork,
  context: RunContext,
): Promise<SeedOutcome> {
  const market = marketWorldOf(settings, seed);
  const path = logBeforeIn(folder);
  await writeLogBefore(market, { path, days: settings.firstDay });
  const trained = (name: ModelName): Promise<TrainedModel> =>
    trainedModel((facts) => runConfigOf(settings, { name, seed, folder }, facts), context);
  const qianmo = await trained('qianmo');
  const global = Object.values(arms).includes('global') ? await trained('global') : null;
  await rm(path);
  const scene = sceneOf(settings, market);
  const outcomes: Record<string, ArmOutcome> = {};
  for (const [name, arm] of Object.entries(arms)) {
    process.stderr.write(`   ${name}\n`);
    outcomes[name] = await inOwnContext(context, async (own) => {
      if (arm === 'oracle') return simulateArm(scene, oracleOf(scene.auctions), own.signal);
      if (arm === 'global') {
        if (global === null) throw new Error('the global model is not trained');
        return simulateArm(scene, globalOf(scene, global), own.signal);
      }
      const exploration = arm.exploring && { ...settings.exploration, ...arm.exploring };
      const served = await adaptingArmOf(scene, qianmo, exploration, own);
      return simulateArm(scene, served, own.signal);
    });
  }
  return { seed, arms: outcomes };
}

/** Prepares, trains, evaluates where the method adapts, and exports with all rows. */
async function trainedModel(
  configOf: (facts: DataFacts | null) => RunConfig,
  context: RunContext,
): Promise<TrainedModel> {
  const step = <Result>(work: (own: RunContext) => Promise<Result>): Promise<Result> =>
    inOwnContext(context, work);
  const draft = configOf(null);
  await step((own) => prepareRun(REQUESTS.prepare.parse({ config: draft, force: true }), own));
  const { store } = await openPreparedRun(draft, context);
  const config = configOf(await factsOf(draft, store, null));
  const computing = { config, processes: 1 };
  await step((own) => trainRun(REQUESTS.train.parse({ ...computing, fresh: true }), own));
  if (config.method.kind !== 'global')
    await step((own) => evaluateRun(REQUESTS.evaluate.parse({ ...computing, fresh: true }), own));
  return step(async (own) => {
    const request = REQUESTS.export.parse({ ...computing, rows: 'all' });
    const { bundles, digest } = await exportRun(request, own);
    const store = objectStoreAt(bundles, context.environment);
    const { manifest } = await readBundleManifest(store, digest);
    return { config, digest, loaded: await readBundle(manifest, filesOf(store), bundles) };
  });
}

/** Stops what the work starts when it ends, not at the end of the seed. */
async function inOwnContext<Result>(
  context: RunContext,
  work: (own: RunContext) => Promise<Result>,
): Promise<Result> {
  const { context: own, close } = openRunContext(context, context.signal, context.sink);
  try {
    return await work(own);
  } finally {
    await close();
  }
}
