/** The state of a ranking server: adgroups that adapt from labelled rows, and where asked for, a log of rows and exploration. */

import { secondsText } from '../../shared/names/counted.js';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parsedBundleAddress, objectStoreAt } from '../../coordinator/runs/places.js';
import type { Surroundings } from '../../coordinator/runs/run-handle.js';
import type { Clock } from '../../shared/base/clock.js';
import { errorOf } from '../../shared/base/errors.js';
import { freshNonce } from '../../shared/base/nonce.js';
import type { ExplorationConfig } from '../../shared/config/exploration-config.js';
import { noticeEvent, type RunEventSink } from '../../shared/events/run-events.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { computeEnvironment } from '../../worker/compute/device/gpus.js';
import type { EvidenceLog, Receipt } from '../../worker/serving/exploration/evidence-ledger.js';
import { ProcessesState, type ParentLink } from '../../worker/serving/processes/state-link.js';
import type { Endpoint } from '../../worker/serving/server/endpoint.js';
import { adaptEndpoint } from '../../worker/serving/server/endpoints/adapt.js';
import { adgroupEndpoints } from '../../worker/serving/server/endpoints/adgroups.js';
import type { ExplorationCounts } from '../../worker/serving/server/endpoints/exploration.js';
import {
  LiveAdapter,
  type AdaptEngine,
  type LiveRowsLog,
  LiveRowsState,
} from '../../worker/serving/server/live-adapter.js';
import type { ServedBundle } from '../../worker/serving/server/served-bundle.js';
import type { RowsPlace } from '../../worker/serving/exploration/row-log.js';
import { ownFolder } from '../../worker/serving/state/folder-owner.js';
import { FileLog } from '../../worker/serving/state/shared-log.js';
import type { z } from 'zod';
import type { ServeRequestSchema } from './requests.js';

type StateRequest = z.output<typeof ServeRequestSchema>;

interface StateSurroundings extends Pick<Surroundings, 'clock' | 'environment'> {
  readonly onEvent: RunEventSink;
}

interface ServedState {
  /** Endpoints of the state replace others at the same path. */
  endpointsWith(endpoints: readonly Endpoint[]): readonly Endpoint[];
  /** Makes a bundle ready, before it is served. @param beside the clock where another one is served meanwhile. */
  readonly prepare: (bundle: ServedBundle, beside: Clock | null) => Promise<void>;
  /** Counts of what the policy decided and explored; null without exploration. */
  readonly explorationCounts: () => ExplorationCounts | null;
  close(): Promise<void>;
}

const NO_STATE: ServedState = {
  endpointsWith: (endpoints) => endpoints,
  prepare: () => Promise.resolve(),
  explorationCounts: () => null,
  close: () => Promise.resolve(),
};

/** The opened parts of a state, closed in reverse order: the folder is given back last. */
class Opened {
  readonly #closing: (() => Promise<void>)[] = [];

  add<Part extends { close(): Promise<void> }>(part: Part): Part {
    this.#closing.push(() => part.close());
    return part;
  }

  async close(): Promise<void> {
    for (const each of this.#closing.splice(0).reverse()) await each();
  }

  /** Closes all if the work fails. */
  async orClosed<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      await this.close();
      throw error;
    }
  }
}

/**
 * @param parent has the logs and the engine of all processes; null for a process that is alone.
 * @throws QianmoError if another process has the folder, or what is there cannot be read.
 */
export async function openServedState(
  request: StateRequest,
  surroundings: StateSurroundings,
  parent: ParentLink | null,
): Promise<ServedState> {
  const { state: folder, explore, rows } = request;
  if (folder === undefined) {
    if (explore === undefined && rows === undefined) return NO_STATE;
    throw errorOf('usage', 'a server that learns needs a place for its state', {
      where: explore === undefined ? '--rows' : '--explore',
      expected: '--state with a folder of its own',
      cure: 'give --state FOLDER',
    });
  }
  // A policy that cannot be read leaves no folder behind.
  const settings = await explorationOf(request);
  const opened = new Opened();
  return opened.orClosed(async () => {
    const { clock, onEvent } = surroundings;
    const isWriter = parent === null || settings !== null;
    const assertOwned = isWriter ? await ownedFolder(folder, surroundings, opened) : undefined;
    if (parent === null && settings !== null) await deliverRowsLeft(request, folder, surroundings);
    const file = { folder, clock, assertOwned };
    const nowMs = (): number => clock.epochMs();
    const log: LiveRowsLog =
      parent === null
        ? opened.add(await rowsIn(file))
        : await parent.open('rows', new LiveRowsState(), nowMs);
    const engine = parent ?? (await ownEngine(surroundings, opened));
    const adapter = new LiveAdapter({ log, engine, clock });
    const endpoints: Endpoint[] = [adaptEndpoint(adapter), ...adgroupEndpoints(adapter)];
    let explorationCounts: ServedState['explorationCounts'] = () => null;
    if (settings !== null) {
      const { openExploration } =
        await import('../../worker/serving/server/endpoints/exploration.js');
      const { EvidenceLedger } =
        await import('../../worker/serving/exploration/evidence-ledger.js');
      const { feedback } = settings;
      const evidence: EvidenceLog =
        request.redis !== undefined
          ? opened.add(await evidenceInRedis(request, request.redis, feedback, surroundings))
          : parent === null
            ? opened.add(await evidenceIn(file, feedback))
            : await parent.open('evidence', new EvidenceLedger(feedback), nowMs);
      const exploration = opened.add(
        await openExploration({
          ...{ settings, evidence, clock, onEvent },
          rows: rowsPlaceOf(request, folder, surroundings),
          ...{ nonce: freshNonce(), freshKey: Array.from({ length: 4 }, freshNonce).join('') },
        }),
      );
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
      close: () => opened.close(),
    };
  });
}

/** The state of several processes, which their parent opens. Null without a folder. */
export async function openProcessesState(
  request: StateRequest,
  surroundings: StateSurroundings,
): Promise<{ readonly state: ProcessesState; close(): Promise<void> } | null> {
  const { state: folder, redis } = request;
  if (folder === undefined) return null;
  const settings = await explorationOf(request);
  const opened = new Opened();
  return opened.orClosed(async () => {
    const { clock } = surroundings;
    const file = { folder, clock, assertOwned: await ownedFolder(folder, surroundings, opened) };
    if (settings !== null) await deliverRowsLeft(request, folder, surroundings);
    const rows = opened.add(await rowsIn(file));
    const logs =
      settings === null || redis !== undefined
        ? { rows }
        : { rows, evidence: opened.add(await evidenceIn(file, settings.feedback)) };
    const engine = await ownEngine(surroundings, opened);
    return { state: new ProcessesState(logs, engine), close: () => opened.close() };
  });
}

/** Code that only exploration needs is loaded for it alone, so other servers start sooner. */
async function explorationOf({ explore, rows }: StateRequest): Promise<ExplorationConfig | null> {
  if (explore !== undefined) {
    const { POLICY } = await import('../../shared/config/load-run-config.js');
    const { loadConfig } = await import('../../shared/config/yaml-file.js');
    return loadConfig(POLICY, explore);
  }
  if (rows === undefined) return null;
  const { ExplorationConfigSchema } = await import('../../shared/config/exploration-config.js');
  return ExplorationConfigSchema.parse({});
}

/** Rows of a process wait here, in its folder, until they are delivered. */
const SPOOL_FOLDER = 'spool';
const ROWS_FOLDER = 'rows';

/** The folder of rows that a process with this state has not delivered. */
export function spoolIn(state: string): string {
  return join(state, SPOOL_FOLDER);
}

/** The address of the log of rows of a server that explores and names none. */
export function defaultRowsIn(state: string): string {
  return join(state, ROWS_FOLDER);
}

function rowsPlaceOf(
  { rows, rowsSeconds, rowsGib }: StateRequest,
  folder: string,
  { environment }: StateSurroundings,
): RowsPlace {
  return {
    store: objectStoreAt(rows ?? defaultRowsIn(folder), environment),
    spool: spoolIn(folder),
    deliverySeconds: rowsSeconds,
    storeByteCountMax: rowsGib * 2 ** 30,
  };
}

/** Delivers what processes have left that this server does not start again. */
async function deliverRowsLeft(
  request: StateRequest,
  folder: string,
  surroundings: StateSurroundings,
): Promise<void> {
  const placeCount = request.processes > 1 ? request.processes : 0;
  for (const name of await readdir(folder)) {
    const place = /^process-(\d+)$/.exec(name)?.[1];
    if (place === undefined || Number(place) < placeCount) continue;
    const own = join(folder, name);
    const left = await readdir(spoolIn(own)).catch((): string[] => []);
    if (left.length === 0) continue;
    const { openRowLog } = await import('../../worker/serving/exploration/row-log.js');
    const opened = new Opened();
    const rows = request.rows ?? defaultRowsIn(folder);
    await opened.orClosed(async () => {
      await ownedFolder(own, surroundings, opened);
      const given = rowsPlaceOf({ ...request, rows }, own, surroundings);
      opened.add(
        await openRowLog({ ...given, ...surroundings, nonce: freshNonce(), firstLine: '' }),
      );
    });
    await opened.close();
  }
}

/** A compute process, which begins with the first bundle that adapts. It leaves GPUs to others. */
async function ownEngine(
  { clock, environment, onEvent }: StateSurroundings,
  opened: Opened,
): Promise<AdaptEngine> {
  const { createComputeProcess } = await import('../../worker/process/compute-process.js');
  return opened.add(
    createComputeProcess({
      ...{ clock, device: 'cpu' },
      environment: computeEnvironment(environment, 'cpu', undefined),
      onEvent: (event) => {
        // Jobs of requests are over in milliseconds.
        if (event.kind !== 'job-progress') onEvent(event);
      },
    }),
  );
}

/** Returns the check that the folder still belongs to this process. */
async function ownedFolder(
  folder: string,
  { clock, onEvent }: Pick<StateSurroundings, 'clock' | 'onEvent'>,
  opened: Opened,
): Promise<() => Promise<void>> {
  const onWatched = (owner: string, silenceMs: number): void => {
    const text = `the folder of the state is of ${owner}: waiting ${secondsText(silenceMs)} for its signs`;
    onEvent(noticeEvent('state-owner-watched', text));
  };
  const owned = await ownFolder(folder, { clock, start: freshNonce(), onWatched });
  opened.add({ close: () => owned.giveBack() });
  return () => owned.assertOwned();
}

interface StateFile {
  readonly folder: string;
  readonly clock: Clock;
  readonly assertOwned: (() => Promise<void>) | undefined;
}

function rowsIn({ folder, ...file }: StateFile): Promise<FileLog<LiveRowsState, void>> {
  return FileLog.open(new LiveRowsState(), { ...file, path: join(folder, 'live-rows.log') });
}

async function evidenceIn({ folder, ...file }: StateFile, feedback: ExplorationConfig['feedback']) {
  const { EvidenceLedger } = await import('../../worker/serving/exploration/evidence-ledger.js');
  const ledger = new EvidenceLedger(feedback);
  return FileLog.open<typeof ledger, Receipt[]>(ledger, {
    ...{ ...file, path: join(folder, 'evidence.log') },
  });
}

async function evidenceInRedis(
  { bundle }: StateRequest,
  url: string,
  feedback: ExplorationConfig['feedback'],
  { clock, environment }: StateSurroundings,
): Promise<EvidenceLog> {
  const { EvidenceLedger } = await import('../../worker/serving/exploration/evidence-ledger.js');
  const { RedisLog } = await import('../../worker/serving/state/redis-log.js');
  // Servers of one place of bundles share their evidence, however each spells its address.
  const place = objectFolderOf(
    objectStoreAt(parsedBundleAddress(bundle).address, environment).address,
  );
  return RedisLog.open({
    ...{ url, clock, tls: await tlsFilesOf(environment) },
    name: `evidence:${sha256Of(Buffer.from(place)).slice(0, 16)}`,
    makeState: () => new EvidenceLedger(feedback),
  });
}
