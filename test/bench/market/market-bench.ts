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
import { join } from 'node:path';
import { z } from 'zod';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { openBenchContext } from '../bench-context.js';
import { benchHeader, folderOfCommit, writeResult } from '../bench-header.js';
import { benchOptions } from '../bench-options.js';
import { text, wholeNumber } from '../option-values.js';
import { ArmOutcomeSchema } from './arm-outcome.js';
import { marketPage, policiesPage, type MarketRecord } from './market-page.js';
import { MARKET, type MarketSettings } from './market-settings.js';
import { goodAdgroupsOf, measuredArmsOf, type SeedOutcome } from './seed-measures.js';
import { MARKET_ARMS, POLICY_ARMS, seedOutcomeOf } from './seed-outcome.js';

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
