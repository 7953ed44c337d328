/** `qianmo simulate-market` on a tiny world with real models: stop, go on, report; and what its arms read and learn. */

import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuctionStream } from '../../../coordinator/market/world/auction-stream.js';
import { encodedMarketOf } from '../../../coordinator/market/world/encoded-market.js';
import { LiveAdaptation } from '../../../coordinator/market/live-adaptation.js';
import { LiveBundle } from '../../../coordinator/market/live-bundle.js';
import { writeLogBefore } from '../../../coordinator/market/world/log-before.js';
import { MarketReportSchema } from '../../../coordinator/market/market-report.js';
import { marketWorldOf, newAdgroupsOf } from '../../../coordinator/market/world/market-world.js';
import { marketRunsOf } from '../../../coordinator/runs/market/market-models.js';
import { objectStoreAt } from '../../../coordinator/runs/places.js';
import { openPreparedRun, savedMetaParametersOf } from '../../../coordinator/runs/run-files.js';
import { formatFailure, QianmoError, simulateMarket } from '../../../infra/library/index.js';
import { localCompute } from '../../../infra/library/local-compute.js';
import { marketServing } from '../../../infra/library/market/market-serving.js';
import { packageRoot } from '../../../infra/library/package-root.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { bundleDigestOf, readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import { parseMarketConfig, type MarketConfig } from '../../../shared/config/market-config.js';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';
import { runContext } from '../../fixtures/run-context.js';

const EXAMPLE = fileURLToPath(new URL('infra/examples/market.yaml', packageRoot));

let room: CommandRoom;
let config: MarketConfig;

function tinyMarket(output: string): MarketConfig {
  const example = parseMarketConfig(readFileSync(EXAMPLE, 'utf8'), EXAMPLE);
  const section = (name: string): object => {
    const found = example.run[name];
    return typeof found === 'object' && found !== null ? found : {};
  };
  const run = {
    ...example.run,
    training: {
      ...section('training'),
      outerSteps: 4,
      tasksPerOuterStep: 16,
      checkpointEveryOuterSteps: 4,
    },
    evaluation: {
      arms: ['meta-adapted'],
      innerRates: [0.3],
      innerSteps: [3],
      sizeBucketEdges: [],
      bootstrapSamples: 100,
    },
    data: { ...section('data'), taskSplit: { by: 'hash', validationShare: 0.2, testShare: 0.2 } },
  };
  return {
    ...example,
    seeds: { first: 1, count: 2 },
    world: { ...example.world, rows: 6_000, adgroups: 60, users: 200 },
    days: 2,
    traffic: { auctionsPerDay: 600, candidates: 8 },
    goodAdgroups: { oracleImpressions: 5, wins: 2 },
    exploration: {
      ...example.exploration,
      policy: 'lin-ucb',
      weights: { ...example.exploration.weights, columns: ['category', 'slot'] },
    },
    run,
    output,
  };
}

beforeAll(async () => {
  room = await commandRoom();
  config = tinyMarket(room.path('market'));
  await room.write('market.yaml', JSON.stringify(config));
});
afterAll(() => room.remove());

describe('qianmo simulate-market', () => {
  it('is stopped, goes on with the next seed, and writes table, JSON and page', async () => {
    const first = room.start(['simulate-market', 'market.yaml']);
    await first.saw(/seed 1: done/);
    first.signal('SIGINT');
    const stopped = await first.ended;
    expect(stopped.exitCode, stopped.diagnostics).toBe(4);
    expect(stopped.diagnostics).toMatch(/1 of 2 seeds are done and kept/);
    const kept = await readFile(room.path('market/outcomes/1.json'), 'utf8');

    const printed = await room.done(['simulate-market', 'market.yaml', '--format', 'json']);
    const report = MarketReportSchema.parse(JSON.parse(printed));
    expect(report.seeds).toEqual([1, 2]);
    expect(report.bar).toHaveLength(4);
    expect(await readFile(room.path('market/outcomes/1.json'), 'utf8')).toBe(kept);
    expect(JSON.parse(await readFile(room.path('market/market.json'), 'utf8'))).toEqual(report);
    const regret = report.measures.find(({ id }) => id === 'regret')?.arms;
    expect(regret?.find(({ arm }) => arm === 'oracle')?.mean?.value).toBeLessThan(0.01);
    for (const { arm, mean } of regret ?? [])
      if (arm !== 'oracle') expect(mean?.value).toBeGreaterThan(0.05);
    const explored = report.measures.find(({ id }) => id === 'explored')?.arms ?? [];
    expect(explored.map(({ arm, mean }) => [arm, (mean?.value ?? 0) > 0])).toEqual([
      ['global', false],
      ['qianmo', false],
      ['qianmo-exploring', true],
      ['oracle', false],
    ]);

    // Every seed is there, so that nothing is computed.
    const table = await room.done(['simulate-market', 'market.yaml']);
    expect(table).toContain('spent by small');
    expect(table).toMatch(/(Holds|Does not hold): qianmo with exploration against global/);
    const page = await readFile(room.path('market/market.html'), 'utf8');
    expect(page).toContain('Difference from global');
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
  });

  it('refuses faults of the market and of its runs before anything is written', async () => {
    const learningFrom = (column: string) => {
      const { weights, ...exploration } = config.exploration;
      return { exploration: { ...exploration, weights: { ...weights, columns: [column] } } };
    };
    const rememberingEvents = (eventsMax: number) => {
      const { feedback, ...exploration } = config.exploration;
      return { exploration: { ...exploration, feedback: { ...feedback, eventsMax } } };
    };
    const refusals: readonly (readonly [object, RegExp])[] = [
      [{ days: 14 }, /must not exceed the 14 days/],
      [{ run: { ...config.run, seed: 3 } }, /run.seed: the market fills this in/],
      [{ exploration: { ...config.exploration, mode: 'off' } }, /exploration.mode: must be active/],
      [{ feedback: { clickDelaySeconds: 86_400 } }, /every click would come too late/],
      [rememberingEvents(1_199), /eventsMax: must not be less than the auctions/],
      [{ run: { ...config.run, method: { kind: 'fomamll' } } }, /method.kind/],
      [learningFrom('weather'), /the market has no column "weather" to learn from/],
    ];
    for (const [change, found] of refusals) {
      const refused = simulateMarket({
        config: { ...config, ...change, output: room.path('bad') },
      });
      const error: unknown = await refused.catch((failure: unknown) => failure);
      expect(error).toBeInstanceOf(QianmoError);
      expect(error instanceof QianmoError && formatFailure(error)).toMatch(found);
    }
    await room.write('bad.yaml', JSON.stringify({ ...config, days: 14, output: 'bad' }));
    await room.refused(['simulate-market', 'bad.yaml'], {
      exitCode: 2,
      what: /the market config has fields that are wrong/,
      found: /must not exceed the 14 days/,
      cure: /infra\/examples/,
    });
  });
});

describe('the arms of qianmo', () => {
  /** The rows of the log as if they were auctions. */
  function auctionsOf(
    lines: readonly (readonly string[])[],
    columns: readonly string[],
  ): AuctionStream {
    const numbersOf = (name: string): number[] =>
      lines.map((fields) => Number(fields[columns.indexOf(name)]));
    const count = lines.length;
    const none = {
      clickDraws: new Float64Array(0),
      tieDraws: new Float64Array(0),
      truth: new Float64Array(0),
    };
    return {
      ...{ count, candidatesMax: 1, seconds: new Float64Array(count), ...none },
      users: Uint32Array.from(numbersOf('user')),
      slots: Uint8Array.from(numbersOf('slot')),
      hours: Uint32Array.from(numbersOf('hour')),
      candidateCounts: new Uint32Array(count).fill(1),
      candidates: Uint32Array.from(numbersOf('adgroup')),
    };
  }

  it('read rows as prepare has encoded them, and learn from rows of the market', async () => {
    const signal = new AbortController().signal;
    const market = marketWorldOf(config, 1);
    const path = room.path('again.csv');
    await writeLogBefore(market, { path, days: config.firstDay }, signal);
    const [header = [], ...lines] = (await readFile(path, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => line.split(','));
    const auctions = auctionsOf(lines, header);
    const closers: (() => Promise<void>)[] = [];
    const context = runContext({ onClose: (close) => closers.push(close) });
    try {
      const run = await openPreparedRun(marketRunsOf(config, 1, 'market.yaml').qianmo, context);
      const objects = objectStoreAt(`${run.config.output}/bundles`, {});
      const digest = await bundleDigestOf(objects);
      const { manifest } = await readBundleManifest(objects, digest);
      const loaded = await readBundle(manifest, filesOf(objects), digest);
      const encoded = encodedMarketOf(market, auctions, loaded);
      const stored = await run.store.readTasks(run.store.tasks.map(({ taskIndex }) => taskIndex));
      for (const task of stored)
        for (const [row, logRow] of task.logRows.entries()) {
          const auction = logRow - Math.min(...stored.map(({ logRows }) => Math.min(...logRows)));
          const adgroup = Number(run.store.tasks[task.taskIndex]?.key);
          for (const [place, name] of manifest.encodedFeatures
            .filter(({ kind }) => kind === 'category')
            .map((feature) => feature.name)
            .entries()) {
            const isContext = encoded.contextFeatures.includes(name);
            const side = isContext ? encoded.contexts : encoded.adgroups;
            expect(side.categoryIds[place]?.[isContext ? auction : adgroup]).toBe(
              task.categoryIds[place]?.[row],
            );
          }
          expect(encoded.adgroups.numbers[0]?.[adgroup]).toBe(task.numbers[0]?.[row]);
        }

      const bundle = new LiveBundle(digest, loaded, market.adgroupCount);
      const scorer = marketServing().scorerOf(bundle, encoded, market.adgroupCount);
      const everybody = Uint32Array.from({ length: market.adgroupCount }, (_, adgroup) => adgroup);
      const probabilities = (): number[] => {
        const logits = new Float32Array(market.adgroupCount);
        scorer.score(0, everybody, logits);
        return Array.from(logits, (logit, adgroup) => bundle.probabilityOf(adgroup, logit));
      };
      const saved = await savedMetaParametersOf(run, context);
      if (saved === null) throw new Error('the run is trained');
      const adaptation = await LiveAdaptation.open({
        ...{ run, parameters: saved.metaParameters, caller: context, encoded, rowsMax: 200 },
        compute: localCompute(context),
      });
      const [liked = -1, ignored = -1] = newAdgroupsOf(market);
      const rowsOf = (isClick: boolean) =>
        Array.from({ length: 40 }, (_, auction) => ({ auction, isClick }));
      const before = probabilities();
      const learned = await adaptation.refresh(bundle, [
        { adgroup: liked, rows: rowsOf(true) },
        { adgroup: ignored, rows: rowsOf(false) },
      ]);
      const after = probabilities();
      expect(learned).toEqual([liked, ignored]);
      expect(after[liked]).toBeGreaterThan((before[liked] ?? NaN) * 1.5);
      expect(after[ignored]).toBeLessThan((before[ignored] ?? NaN) / 1.2);
      const others = everybody.filter((adgroup) => adgroup !== liked && adgroup !== ignored);
      for (const adgroup of others) expect(after[adgroup]).toBe(before[adgroup]);
    } finally {
      for (const close of closers.reverse()) await close();
    }
  });
});
