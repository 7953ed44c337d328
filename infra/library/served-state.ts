/** What a ranking server learns while it serves: adapted adgroups, and exploration where it is asked for. */

import { join } from 'node:path';
import { parsedBundleAddress, objectStoreAt } from '../../coordinator/runs/places.js';
import type { Surroundings } from '../../coordinator/runs/run-handle.js';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { freshNonce } from '../../shared/base/nonce.js';
import type { ExplorationConfig } from '../../shared/config/exploration-config.js';
import { type RunEventSink, noticeEvent } from '../../shared/events/run-events.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { computeEnvironment } from '../../worker/compute/device/gpus.js';
import type { AdaptEngine } from '../../worker/serving/adaptation/adapt-jobs.js';
import type { LiveRowsStore } from '../../worker/serving/adaptation/live-rows.js';
import {
  liveRowsIn,
  openLiveRows,
  type LiveRowsLog,
} from '../../worker/serving/adaptation/live-rows-log.js';
import { ownFolder, type OwnedFolder } from '../../worker/serving/decisions/folder-owner.js';
import type { Endpoint } from '../../worker/serving/server/endpoint.js';
import { adaptEndpoint } from '../../worker/serving/server/endpoints/adapt.js';
import type { ExplorationCounts } from '../../worker/serving/server/endpoints/served-exploration.js';
import { LiveAdapter } from '../../worker/serving/server/live-adapter.js';
import type { ServedBundle } from '../../worker/serving/server/served-bundle.js';
import { secondsText } from '../../shared/events/event-parts.js';

interface StateRequest {
  readonly bundle: string;
  readonly explore?: string | undefined;
  readonly state?: string | undefined;
  readonly redis?: string | undefined;
}

interface StateSurroundings extends Pick<Surroundings, 'clock' | 'environment'> {
  readonly onEvent: RunEventSink;
}

interface ServedState {
  /** Those of the state take the place of others at the same path. */
  endpointsWith(endpoints: readonly Endpoint[]): readonly Endpoint[];
  /**
   * Makes a bundle ready, before it is served.
   *
   * @param beside the clock where another one is served meanwhile.
   */
  readonly prepare: (bundle: ServedBundle, beside: Clock | null) => Promise<void>;
  /** Counts of what the policy decided and explored; null without exploration. */
  readonly explorationCounts: () => ExplorationCounts | null;
  close(): Promise<void>;
}

/** What the parent of several processes does for each of them. */
export type SharedState = LiveRowsStore & AdaptEngine;

const NO_STATE: ServedState = {
  endpointsWith: (endpoints) => endpoints,
  prepare: () => Promise.resolve(),
  explorationCounts: () => null,
  close: () => Promise.resolve(),
};

/**
 * @param shared by the parent of this process, which owns the log; null for a process that is alone.
 * @throws QianmoError if another process has the folder, or what is there cannot be read.
 */
export async function openServedState(
  request: StateRequest,
  surroundings: StateSurroundings,
  shared: SharedState | null,
): Promise<ServedState> {
  const { state: folder, explore } = request;
  if (folder === undefined) {
    if (explore === undefined) return NO_STATE;
    throw stateMissing();
  }
  // A policy that cannot be read leaves no folder behind.
  const settings = explore === undefined ? null : await explorationIn(explore);
  // In the order of closing: the folder is given back last.
  const closing: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const each of [...closing].reverse()) await each();
  };
  try {
    const isWriter = shared === null || settings !== null;
    const owned = isWriter ? await ownedFolder(folder, surroundings) : null;
    if (owned !== null) closing.push(() => owned.giveBack());
    const place = { folder, assertOwned: async () => owned?.assertOwned() };
    const parts =
      shared === null
        ? {
            store: await ownRows(place, closing),
            engine: await ownEngine(surroundings, closing),
          }
        : { store: shared, engine: shared };
    const adapter = new LiveAdapter({ ...parts, clock: surroundings.clock });
    const endpoints: Endpoint[] = [adaptEndpoint(adapter)];
    let explorationCounts: ServedState['explorationCounts'] = () => null;
    if (settings !== null) {
      const exploration = await openedExploration({ ...request, ...place, settings }, surroundings);
      closing.push(() => exploration.close());
      endpoints.push(...exploration.endpoints);
      explorationCounts = exploration.counts;
    }
    return {
      endpointsWith: (others) => [
        ...others.filter(({ path }) => !endpoints.some((each) => each.path === path)),
        ...endpoints,
      ],
      prepare: (bundle, beside) => adapter.prepare(bundle, beside),
      explorationCounts,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What only exploration needs is loaded for it alone, so that others start sooner. */
async function explorationIn(path: string): Promise<ExplorationConfig> {
  const { loadExploration } = await import('../../shared/config/load-run-config.js');
  return loadExploration(path);
}

/** What several processes share, which their parent opens: the log in a folder that it owns, and the engine. */
export async function openSharedState(
  { state: folder, explore }: Pick<StateRequest, 'state' | 'explore'>,
  surroundings: StateSurroundings,
): Promise<{
  readonly log: LiveRowsLog;
  readonly engine: AdaptEngine;
  close(): Promise<void>;
} | null> {
  if (folder === undefined) return null;
  if (explore !== undefined) await explorationIn(explore);
  const owned = await ownedFolder(folder, surroundings);
  const closing = [() => owned.giveBack()];
  const close = async (): Promise<void> => {
    for (const each of [...closing].reverse()) await each();
  };
  try {
    const log = await openLiveRows(rowsPathIn(folder), () => owned.assertOwned());
    closing.push(() => log.close());
    return { log, engine: await ownEngine(surroundings, closing), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A compute process, which begins with the first bundle that adapts. It leaves GPUs to others. */
async function ownEngine(
  { clock, environment, onEvent }: StateSurroundings,
  closing: (() => Promise<void>)[],
): Promise<AdaptEngine> {
  const { createComputeProcess } = await import('../../worker/process/compute-process.js');
  const engine = createComputeProcess({
    ...{ clock, device: 'cpu' },
    environment: computeEnvironment(environment, 'cpu', undefined),
    onEvent: (event) => {
      // Jobs of requests are over in milliseconds.
      if (event.kind !== 'job-progress') onEvent(event);
    },
  });
  closing.push(() => engine.close());
  return engine;
}

function ownedFolder(
  folder: string,
  { clock, onEvent }: Pick<StateSurroundings, 'clock' | 'onEvent'>,
): Promise<OwnedFolder> {
  return ownFolder(folder, {
    ...{ clock, start: freshNonce() },
    onWatched: (owner, silenceMs) =>
      onEvent(
        noticeEvent(
          'state-owner-watched',
          `the folder of the state is of ${owner}: waiting ${secondsText(silenceMs)} for its signs`,
        ),
      ),
  });
}

/** The place of the state, and the check that it still belongs to this process. */
interface StatePlace {
  readonly folder: string;
  readonly assertOwned: () => Promise<void>;
}

async function ownRows(
  { folder, assertOwned }: StatePlace,
  closing: (() => Promise<void>)[],
): Promise<LiveRowsStore> {
  const log = await openLiveRows(rowsPathIn(folder), assertOwned);
  closing.push(() => log.close());
  return liveRowsIn(log);
}

function rowsPathIn(folder: string): string {
  return join(folder, 'live-rows.ndjson');
}

async function openedExploration(
  {
    folder,
    assertOwned,
    settings,
    redis,
    bundle,
  }: StateRequest & StatePlace & { readonly settings: ExplorationConfig },
  { clock, environment, onEvent }: StateSurroundings,
) {
  const { openExploration } =
    await import('../../worker/serving/server/endpoints/served-exploration.js');
  const tls = await tlsFilesOf(environment);
  // Servers of one place of bundles share their evidence, however each spells its address.
  const place = objectFolderOf(
    objectStoreAt(parsedBundleAddress(bundle).address, environment).address,
  );
  const name = sha256Of(Buffer.from(place)).slice(0, 16);
  return openExploration({
    ...{ settings, folder, assertOwned, clock, onEvent, nonce: freshNonce() },
    redis: redis === undefined ? null : { url: redis, name, tls },
    freshKey: Array.from({ length: 4 }, freshNonce).join(''),
  });
}

function stateMissing(): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'a server that learns needs a place for its state',
    where: '--explore',
    expected: '--state with a folder of its own',
    cure: 'give --state FOLDER',
  });
}
