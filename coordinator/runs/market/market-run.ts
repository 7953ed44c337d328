/** Simulates a market: for each seed a world, a log, trained models, and every arm on the same auctions. */

import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import type { z } from 'zod';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import type { MarketConfig } from '../../../shared/config/market-config.js';
import type { EventKind, RunEventSink } from '../../../shared/events/run-events.js';
import { MARKET_ARMS, type ArmOutcome } from '../../market/arm-outcome.js';
import type { MarketServing } from '../../market/arm-serving.js';
import { drawAuctions, type AuctionStream } from '../../market/world/auction-stream.js';
import { sizeClassesOf } from '../../market/budgets.js';
import { bestDailyRevenue } from '../../market/daily-revenue.js';
import { writeLogBefore } from '../../market/world/log-before.js';
import { marketReportOf, type MarketReport } from '../../market/market-report.js';
import { demandMarketColumns } from '../../market/world/market-rows.js';
import { budgetsOf, marketWorldOf, type MarketWorld } from '../../market/world/market-world.js';
import type { SeedOutcome } from '../../market/seed-measures.js';
import { simulateArm, type MarketScene } from '../../market/simulate-arm.js';
import { asPage } from '../../reports/document/as-page.js';
import { marketDocument } from '../../reports/market-document.js';
import { interruptedAs } from '../call/interruption.js';
import type { RunContext } from '../call/run-context.js';
import { marketConfigOf } from '../config-sources.js';
import type { DispatchChoice } from '../dispatch-for-run.js';
import { objectStoreAt } from '../places.js';
import type { MarketRequestSchema } from '../requests.js';
import { joinAddress } from '../run-files.js';
import { servedArmOf } from './market-arms.js';
import { KeptSeeds } from './kept-seeds.js';
import {
  inOwnContext,
  logBeforeOf,
  marketRunsOf,
  MODEL_STAGES,
  seedFolderOf,
  trainedBundle,
  type MarketRuns,
} from './market-models.js';

const REPORT_FILE = 'market.json';
const PAGE_FILE = 'market.html';
/** Two models and every arm. */
const UNITS_PER_SEED = 2 * MODEL_STAGES + MARKET_ARMS.length;
/** What happens inside the runs of a market matters only where something is wrong with the machine. */
const PASSED_ON: ReadonlySet<EventKind> = new Set(['backend-portable']);

export async function marketRun(
  request: z.output<typeof MarketRequestSchema>,
  serving: MarketServing,
  context: RunContext,
): Promise<MarketReport> {
  const config = await marketConfigOf(request.config, context.environment);
  const where = typeof request.config === 'string' ? request.config : 'config';
  // A fault of the runs must be told before the first world is made.
  marketRunsOf(config, config.seeds.first, where);
  demandMarketColumns(config.exploration.weights.columns);
  const output = objectStoreAt(config.output, context.environment);
  const configDigest = digestOf(config);
  const kept = new KeptSeeds(output, configDigest);
  const seeds = Array.from(
    { length: config.seeds.count },
    (_, place) => config.seeds.first + place,
  );
  const found = request.fresh ? new Map<number, SeedOutcome>() : await kept.read(seeds);
  const { workers, processes, redis } = request;
  const work = { config, where, serving, choice: { workers, processes, redis } };
  const outcomes: SeedOutcome[] = [];
  for (const [place, seed] of seeds.entries()) {
    const progress = progressOf(context.sink, { seed, place, seedCount: seeds.length });
    const outcome =
      found.get(seed) ??
      (await interruptedAs(
        inOwnContext(quietly(context), (own) => seedOutcome({ ...work, seed, progress }, own)),
        () => ({
          what: `the market was stopped; ${outcomes.length} of ${seeds.length} seeds are done and kept`,
          where: config.output,
          cure: 'run the same command again: it goes on with the next seed',
        }),
      ));
    if (!found.has(seed)) await kept.write(outcome);
    outcomes.push(outcome);
    progress.done();
  }
  const report = marketReportOf({ config, configDigest, scorer: serving.scorer }, outcomes);
  const put = (key: string, text: string): Promise<unknown> =>
    output.put(key, Buffer.from(text), { kind: 'always' });
  await put(REPORT_FILE, `${JSON.stringify(report, null, 2)}\n`);
  await put(PAGE_FILE, asPage(marketDocument(report)));
  context.sink({ kind: 'report-written', address: joinAddress(config.output, PAGE_FILE) });
  return report;
}

/** Everything that decides the outcome of a seed. */
function digestOf(config: MarketConfig): string {
  const { seeds: _seeds, output: _output, ...deciding } = config;
  return createHash('sha256').update(canonicalJson(deciding)).digest('hex');
}

function quietly(context: RunContext): RunContext {
  const sink: RunEventSink = (event) => {
    if (PASSED_ON.has(event.kind)) context.sink(event);
  };
  return { ...context, sink };
}

interface Progress {
  /** Units of work, of those of all seeds. */
  unit(stage: string): void;
  done(): void;
}

function progressOf(
  sink: RunEventSink,
  {
    seed,
    place,
    seedCount,
  }: { readonly seed: number; readonly place: number; readonly seedCount: number },
): Progress {
  const total = seedCount * UNITS_PER_SEED;
  let units = place * UNITS_PER_SEED;
  const tell = (stage: string, done: number): void =>
    sink({ kind: 'progress', stage: `seed ${seed}: ${stage}`, done, total });
  return {
    unit: (stage) => tell(stage, (units += 1)),
    done: () => tell('done', (place + 1) * UNITS_PER_SEED),
  };
}

interface SeedWork {
  readonly config: MarketConfig;
  readonly where: string;
  readonly seed: number;
  readonly serving: MarketServing;
  readonly choice: DispatchChoice;
  readonly progress: Progress;
}

async function seedOutcome(work: SeedWork, context: RunContext): Promise<SeedOutcome> {
  const { config, seed, serving, progress } = work;
  const market = marketWorldOf(config, seed);
  const runs = marketRunsOf(config, seed, work.where);
  const bundles = await trainedBundles(work, { market, runs }, context);
  const auctions = drawAuctions(market, config);
  const scene = sceneOf(config, market, auctions);
  const arms: ArmOutcome[] = [];
  for (const arm of MARKET_ARMS) {
    const source = { config, market, auctions, runs, bundles, serving };
    const outcome = await inOwnContext(context, async (own) => {
      const served = await servedArmOf(arm, source, own);
      return simulateArm(scene, arm, served, own.signal);
    });
    arms.push(outcome);
    progress.unit(`market of ${arm}`);
  }
  return { seed, arms };
}

async function trainedBundles(
  { config, seed, choice, progress }: SeedWork,
  { market, runs }: { readonly market: MarketWorld; readonly runs: MarketRuns },
  context: RunContext,
) {
  await rm(seedFolderOf(config, seed), { recursive: true, force: true });
  const path = logBeforeOf(config, seed);
  await writeLogBefore(market, { path, days: config.firstDay }, context.signal);
  const train = (name: keyof MarketRuns, own: RunContext) =>
    trainedBundle(runs[name], choice, own, () => progress.unit(`model ${name}`));
  // One process each, so that two cores are used.
  const abort = new AbortController();
  const signal = AbortSignal.any([context.signal, abort.signal]);
  const together = (['qianmo', 'global'] as const).map(async (name) => {
    try {
      return await train(name, { ...context, signal });
    } catch (error) {
      abort.abort(error);
      throw error;
    }
  });
  const [qianmo, global] = await Promise.allSettled(together);
  await rm(path, { force: true });
  for (const each of [qianmo, global]) if (each?.status === 'rejected') throw each.reason;
  if (qianmo?.status !== 'fulfilled' || global?.status !== 'fulfilled')
    throw new Error('both models are trained');
  return { qianmo: qianmo.value, global: global.value };
}

function sceneOf(config: MarketConfig, market: MarketWorld, auctions: AuctionStream): MarketScene {
  const revenue = bestDailyRevenue(market, auctions, config);
  const budgets = budgetsOf(market, config.budgets.pressure * revenue);
  return { config, market, auctions, budgets, classes: sizeClassesOf(budgets, config.budgets) };
}
