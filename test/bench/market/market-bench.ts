/**
 * A synthetic market of advertisers, served by one global model, by qianmo with and without exploration, and by an oracle.
 * With `--policies`, the arms are the policies of exploration. Each seed is a world with a log, trained models and a market.
 * Completed seeds are kept, so an interrupted bench continues. Writes `infra/results/market.md`.
 *
 *   npm run bench -- market
 *   npm run bench -- market --policies
 *   npm run bench -- market --seeds 2 --auctions 1000 --days 3 --rows 30000 --steps 20 --name market-trial
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { evaluateRun } from '../../../coordinator/runs/evaluate-run.js';
import { exportRun } from '../../../coordinator/runs/export-run.js';
import { objectStoreAt } from '../../../coordinator/runs/places.js';
import { prepareRun } from '../../../coordinator/runs/prepare-run.js';
import { REQUESTS } from '../../../coordinator/runs/requests.js';
import type { RunContext } from '../../../coordinator/runs/run-context.js';
import { openPreparedRun } from '../../../coordinator/runs/run-files.js';
import { openRunContext } from '../../../coordinator/runs/run-handle.js';
import { factsOf } from '../../../coordinator/runs/sweep-run.js';
import { trainRun } from '../../../coordinator/runs/train-run.js';
import type { DataFacts } from '../../../coordinator/sweep/search-space.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import type {
  ExplorationConfig,
  ExplorationShare,
} from '../../../shared/config/exploration-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { openBenchContext } from '../bench-context.js';
import { benchHeader, folderOfCommit, writeResult } from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { text, wholeNumber } from '../option-values.js';
import { type ArmOutcome, ArmOutcomeSchema } from './arm-outcome.js';
import { sceneOf } from './auction.js';
import { marketPage, type MarketRecord, policiesPage } from './market-page.js';
import {
  logBeforeIn,
  MARKET,
  type MarketSettings,
  type ModelName,
  runConfigOf,
} from './market-settings.js';
import { marketWorldOf, writeLogBefore } from './market-world.js';
import { goodAdgroupsOf, measuredArmsOf, type SeedOutcome } from './seed-measures.js';
import { adaptingArmOf, globalOf, oracleOf, type TrainedModel } from './served-arms.js';
import { simulateArm } from './simulate-arm.js';

/** An arm of qianmo explores by changed settings, or not at all. */
type Arm = 'global' | 'oracle' | { readonly exploring: Exploring | null };
type Exploring = Partial<Pick<ExplorationConfig, 'policy' | 'share' | 'classes' | 'cutOff'>>;
type Arms = Readonly<Record<string, Arm>>;

const MARKET_ARMS: Arms = {
  global: 'global',
  qianmo: { exploring: null },
  'qianmo-exploring': { exploring: {} },
  oracle: 'oracle',
};

/** The share of small advertisers, with none for the others, to an age in days. */
const smallAlone = (share: ExplorationShare, days = 7): Exploring => ({
  share: { kind: 'fixed', share: 0 },
  classes: [{ name: 'small', share }],
  cutOff: { ...MARKET.exploration.cutOff, ageSeconds: days * 86_400 },
});

/** The frontier between clicks of small advertisers and of all. The oracle shows which new adgroups are good. */
const POLICY_ARMS: Arms = {
  qianmo: { exploring: null },
  'epsilon-greedy': { exploring: { policy: 'epsilon-greedy' } },
  ucb: { exploring: { policy: 'ucb' } },
  thompson: { exploring: {} },
  'thompson, half of both shares': {
    exploring: {
      share: { kind: 'fixed', share: 0.025 },
      classes: [{ name: 'small', share: { kind: 'fixed', share: 0.075 } }],
    },
  },
  'thompson, small alone': { exploring: smallAlone({ kind: 'fixed', share: 0.085 }) },
  'thompson, small alone to 14 days': {
    exploring: smallAlone({ kind: 'fixed', share: 0.085 }, 14),
  },
  // Chosen on seeds 201 and 202: the gain of `thompson` at less than half of its cost.
  'thompson, small alone by loss to 14 days': {
    exploring: smallAlone({ kind: 'loss-bound', lossMax: 0.045, shareMax: 0.6 }, 14),
  },
  oracle: 'oracle',
};

interface SeedWork {
  readonly settings: MarketSettings;
  readonly arms: Arms;
  readonly seed: number;
  /** Holds the log and the runs of the seed. */
  readonly folder: string;
}

async function seedOutcomeOf(
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

const RESULTS = new URL('infra/results/', packageRoot).pathname;

process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';

const header = benchHeader();
const options = benchOptions(import.meta.url, {
  policies: { type: 'boolean', default: false, about: 'compares the policies of exploration' },
  seeds: { value: wholeNumber(2), default: '10', about: 'number of seeds' },
  auctions: {
    value: wholeNumber(24),
    default: String(MARKET.auctionsPerDay),
    about: 'auctions of a day',
  },
  days: { value: wholeNumber(), default: String(MARKET.days), about: 'days of the market' },
  rows: {
    value: wholeNumber(1000),
    default: String(MARKET.world.rows),
    about: 'rows of the log of a world, which has an adgroup for each 150 and a user for each 30',
  },
  folder: {
    value: text,
    default: folderOfCommit('market', header),
    about: 'folder of worlds, runs and completed seeds',
  },
  name: { value: text, default: 'market', about: 'name of the record and its page' },
});
const { rows, days, auctions: auctionsPerDay } = options;
const settings: MarketSettings = {
  ...MARKET,
  world: {
    ...MARKET.world,
    rows,
    adgroups: Math.ceil(rows * (1200 / 200_000)),
    users: Math.ceil(rows * (8000 / 200_000)),
  },
  ...{ days, auctionsPerDay },
};
const arms = options.policies ? POLICY_ARMS : MARKET_ARMS;
const digest = createHash('sha256').update(canonicalJson({ settings, arms })).digest('hex');
const folder = join(options.folder, digest.slice(0, 12));

const KeptSchema = z.strictObject({
  seed: z.int(),
  arms: z.record(z.string(), ArmOutcomeSchema),
});
const seeds: SeedOutcome[] = [];
for (let seed = 1; seed <= options.seeds; seed += 1) {
  const own = join(folder, `seed-${seed}`);
  const kept = join(own, 'outcome.json');
  if (!existsSync(kept)) {
    process.stderr.write(`== seed ${seed}\n`);
    mkdirSync(own, { recursive: true });
    const context = openBenchContext();
    try {
      const outcome = await seedOutcomeOf({ settings, arms, seed, folder: own }, context);
      writeFileSync(kept, JSON.stringify(outcome));
    } finally {
      await context.close();
    }
  }
  seeds.push(KeptSchema.parse(JSON.parse(readFileSync(kept, 'utf8'))));
}

const meanOver = (countOf: (seed: SeedOutcome) => number): number =>
  seeds.reduce((sum, seed) => sum + countOf(seed), 0) / seeds.length;
const record: MarketRecord = {
  ...header,
  ...{ days, auctionsPerDay },
  advertisers: meanOver(
    ({ arms: { oracle } }) =>
      oracle?.classes.reduce((sum, each) => sum + each.advertiserCount, 0) ?? NaN,
  ),
  newAdgroups: meanOver(({ arms: { oracle } }) => oracle?.newAdgroups.length ?? NaN),
  goodAdgroups: meanOver((seed) => goodAdgroupsOf(seed, settings).size),
  seeds: seeds.map((seed) => ({
    seed: seed.seed,
    arms: measuredArmsOf(seed, settings),
  })),
};
const { policies, name } = options;
const result = policies ? policiesPage(record) : marketPage(record);
writeResult(RESULTS, policies ? `${name}-policies` : name, record, result, name);
