/**
 * The policies of exploration in the market of infra/examples/market.yaml: for each seed one world and one trained model, and
 * an arm for each policy beside one without exploration. Seeds that are done are kept, so that a bench that was stopped goes on.
 * Writes `infra/results/market-policies.md` and `.json`.
 *
 *   npm run bench -- market policies
 *   npm run bench -- market policies --seeds 2 --auctions 2000 --name market-policies-trial
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpuUsage } from 'node:process';
import { join } from 'node:path';
import { z } from 'zod';
import { bestDailyRevenue } from '../../../coordinator/market/daily-revenue.js';
import { ArmOutcomeSchema, type ArmOutcome } from '../../../coordinator/market/arm-outcome.js';
import { sizeClassesOf } from '../../../coordinator/market/budgets.js';
import { simulateArm, type MarketScene } from '../../../coordinator/market/simulate-arm.js';
import { drawAuctions } from '../../../coordinator/market/world/auction-stream.js';
import { writeLogBefore } from '../../../coordinator/market/world/log-before.js';
import { budgetsOf, marketWorldOf } from '../../../coordinator/market/world/market-world.js';
import { servedArmOf } from '../../../coordinator/runs/market/market-arms.js';
import {
  inOwnContext,
  logBeforeOf,
  marketRunsOf,
  trainedBundle,
} from '../../../coordinator/runs/market/market-models.js';
import { marketServing } from '../../../infra/library/market/market-serving.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { loadMarketConfig, type MarketConfig } from '../../../shared/config/market-config.js';
import { openBenchContext, type BenchContext } from '../bench-context.js';
import { benchHeader, folderOfCommit } from '../bench-header.js';
import { ARMS, policiesPage, recordedSeeds, settingsOf, type ArmName } from './policies-page.js';
import { benchOptions } from '../options/bench-options.js';
import { text, wholeNumber } from '../options/option-values.js';

const EXAMPLE = new URL('infra/examples/market.yaml', packageRoot).pathname;
const RESULTS = new URL('infra/results/', packageRoot).pathname;
const MICROSECONDS = 1_000_000;

process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';

const header = benchHeader();
const options = benchOptions(import.meta.url, {
  seeds: { value: wholeNumber(2), default: '10', about: 'number of seeds' },
  auctions: { value: wholeNumber(), default: '10000', about: 'auctions of each world' },
  name: { value: text, default: 'market-policies', about: 'name of the record and its page' },
});
const example = await loadMarketConfig(EXAMPLE);
const { auctions: auctionsPerDay } = options;
const folder = join(folderOfCommit('market-policies', header), `${auctionsPerDay}-auctions`);
const config: MarketConfig = {
  ...example,
  seeds: { ...example.seeds, count: options.seeds },
  traffic: { ...example.traffic, auctionsPerDay },
  output: folder,
};
mkdirSync(folder, { recursive: true });

const SeedSchema = z.strictObject({
  seed: z.int(),
  processorSeconds: z.number(),
  arms: z.record(z.string(), ArmOutcomeSchema),
});
const seeds: z.infer<typeof SeedSchema>[] = [];
for (let place = 0; place < config.seeds.count; place += 1) {
  const seed = config.seeds.first + place;
  const kept = join(folder, `${seed}.json`);
  if (!existsSync(kept)) writeFileSync(kept, JSON.stringify(await newSeed(seed)));
  seeds.push(SeedSchema.parse(JSON.parse(readFileSync(kept, 'utf8'))));
}
const record = { ...header, config, seeds };
const measured = { ...header, config, seeds: recordedSeeds(record) };
writeFileSync(join(RESULTS, `${options.name}.json`), `${JSON.stringify(measured, null, 1)}\n`);
writeFileSync(join(RESULTS, `${options.name}.md`), policiesPage(record));

async function newSeed(seed: number): Promise<(typeof seeds)[number]> {
  process.stderr.write(`== seed ${seed}\n`);
  const before = cpuUsage();
  const context = openBenchContext();
  try {
    const arms = await armsOf(seed, context);
    const { user, system } = cpuUsage(before);
    return { seed, processorSeconds: Math.round((user + system) / MICROSECONDS), arms };
  } finally {
    await context.close();
  }
}

async function armsOf(seed: number, context: BenchContext): Promise<Record<string, ArmOutcome>> {
  const market = marketWorldOf(config, seed);
  const runs = marketRunsOf(config, seed, EXAMPLE);
  const path = logBeforeOf(config, seed);
  await writeLogBefore(market, { path, days: config.firstDay }, context.signal);
  const qianmo = await trainedBundle(runs.qianmo, { processes: 1 }, context, () => undefined);
  const auctions = drawAuctions(market, config);
  const budgets = budgetsOf(
    market,
    config.budgets.pressure * bestDailyRevenue(market, auctions, config),
  );
  const classes = sizeClassesOf(budgets, config.budgets);
  const outcomeOf = (name: ArmName): Promise<ArmOutcome> => {
    const own = { ...config, exploration: settingsOf(name, config.exploration) };
    const scene: MarketScene = { config: own, market, auctions, budgets, classes };
    const arm = name === 'oracle' || name === 'qianmo' ? name : 'qianmo-exploring';
    // No arm here is served by the global model.
    const bundles = { qianmo, global: qianmo };
    const source = { config: own, market, auctions, runs, bundles, serving: marketServing() };
    return inOwnContext(context, async (inner) => {
      const served = await servedArmOf(arm, source, inner);
      return simulateArm(scene, arm, served, inner.signal);
    });
  };
  const outcomes: Record<string, ArmOutcome> = {};
  for (const name of ARMS) {
    process.stderr.write(`   ${name}\n`);
    outcomes[name] = await outcomeOf(name);
  }
  return outcomes;
}
