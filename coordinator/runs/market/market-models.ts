/** The models of a market with one seed: the log before it is prepared, trained on, evaluated and exported. */

import { join } from 'node:path';
import { filesOf } from '../../../shared/bundle/array-files.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { readBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { checkedRunConfig } from '../../../shared/config/load-run-config.js';
import type { MarketConfig } from '../../../shared/config/market-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { openRunContext } from '../call/run-handle.js';
import type { RunContext } from '../call/run-context.js';
import type { DispatchChoice } from '../dispatch-for-run.js';
import { evaluateRun } from '../evaluate-run.js';
import { exportRun } from '../export/export-run.js';
import { objectStoreAt } from '../places.js';
import { prepareRun } from '../prepare-run.js';
import {
  EvaluateRequestSchema,
  ExportRequestSchema,
  PrepareRequestSchema,
  TrainRequestSchema,
} from '../requests.js';
import { trainRun } from '../train/train-call.js';

/** Stages of `trainedBundle`, for progress. */
export const MODEL_STAGES = 4;

export interface MarketRuns {
  readonly qianmo: RunConfig;
  readonly global: RunConfig;
}

/** @throws QianmoError of kind `usage` that lists every fault of the section `run`. */
export function marketRunsOf(config: MarketConfig, seed: number, where: string): MarketRuns {
  const folder = seedFolderOf(config, seed);
  const { data = {}, ...given } = config.run;
  const shared = typeof data === 'object' && !Array.isArray(data) ? data : {};
  const completed = (name: 'qianmo' | 'global', ofData: object): Record<string, unknown> => ({
    ...given,
    ...{ run: `${config.market}-${seed}-${name}`, seed, output: join(folder, name) },
    data: {
      ...shared,
      ...ofData,
      ...{ logs: logBeforeOf(config, seed), store: join(folder, name, 'store') },
    },
  });
  const place = `${where}: run`;
  const qianmo = checkedRunConfig(completed('qianmo', {}), place);
  const ids = { name: 'adgroup', kind: 'category', countMin: config.global.adgroupCountMin };
  const { optimizer = qianmo.training.optimizer, outerSteps = qianmo.training.outerSteps } =
    qianmo.globalTraining;
  const global = checkedRunConfig(
    {
      ...completed('global', { features: [...qianmo.data.features, ids] }),
      method: { kind: 'global' },
      training: { ...trainingOf(given), optimizer, outerSteps },
    },
    place,
  );
  return { qianmo, global };
}

function trainingOf({ training }: Readonly<Record<string, unknown>>): object {
  return typeof training === 'object' && training !== null ? training : {};
}

export function seedFolderOf({ output }: Pick<MarketConfig, 'output'>, seed: number): string {
  return join(output, `seed-${seed}`);
}

export function logBeforeOf(config: Pick<MarketConfig, 'output'>, seed: number): string {
  return join(seedFolderOf(config, seed), 'log.csv');
}

export interface TrainedBundle {
  readonly digest: string;
  readonly loaded: LoadedBundle;
}

/** Prepares, trains, evaluates where the method adapts, and exports with all rows. */
export async function trainedBundle(
  config: RunConfig,
  choice: DispatchChoice,
  context: RunContext,
  onStage: () => void,
): Promise<TrainedBundle> {
  const step = async <Result>(work: (own: RunContext) => Promise<Result>): Promise<Result> => {
    const result = await inOwnContext(context, work);
    onStage();
    return result;
  };
  await step((own) => prepareRun(PrepareRequestSchema.parse({ config, force: true }), own));
  const computing = { config, ...choice };
  await step((own) => trainRun(TrainRequestSchema.parse({ ...computing, fresh: true }), own));
  await step(async (own) => {
    if (config.method.kind === 'global') return;
    await evaluateRun(EvaluateRequestSchema.parse({ ...computing, fresh: true }), own);
  });
  return step(async (own) => {
    const request = ExportRequestSchema.parse({ ...computing, rows: 'all' });
    const { bundles, digest } = await exportRun(request, own);
    const store = objectStoreAt(bundles, context.environment);
    const { manifest } = await readBundleManifest(store, digest);
    return { digest, loaded: await readBundle(manifest, filesOf(store), bundles) };
  });
}

/** What the work starts is stopped when it ends, not at the end of the market. */
export async function inOwnContext<Result>(
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
