/** Prepares the logs of a run: they become a task store. */

import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { tmpdir } from 'node:os';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { EventKind } from '../../shared/events/run-events.js';
import { prepareTaskStore } from '../prepare/prepare.js';
import { asPage } from '../reports/document/as-page.js';
import { storeDocument } from '../reports/store-document.js';
import { configOf } from './places.js';
import { loggedCallOf, loggedRun } from './logged-run.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';
import { objectStoreOf } from './run-files.js';

/** A prepare that fails leaves nothing behind, and no log either. */
const BEGINNINGS: ReadonlySet<EventKind> = new Set(['store-prepared']);

type PreparedStore = Parameters<typeof storeDocument>[0];
const PAGE = 'data.html';

export async function prepareRun(
  { config: source, force }: RequestOf<'prepare'>,
  context: RunContext,
): Promise<PreparedStore> {
  const config = await configOf(RUN_CONFIG, source, context.environment);
  // The log lies in the output of the run, because a new store replaces the whole folder of the old one.
  const call = { ...loggedCallOf('prepare', config), beginnings: BEGINNINGS };
  const prepared = await loggedRun(call, context, (logged) => preparedStore(config, force, logged));
  return { store: config.data.store, ...prepared };
}

function preparedStore(
  config: RunConfig,
  force: boolean,
  context: RunContext,
): ReturnType<typeof prepareTaskStore> {
  return prepareTaskStore(config, {
    force,
    clock: context.clock,
    sink: context.sink,
    signal: context.signal,
    objectStoreOf: (address) => objectStoreOf(config, address),
    temporaryFolder: tmpdir(),
    logsFolder: context.logsFolder,
    // Before the store, which would be kept without a report at the next prepare.
    beforePublishing: (prepared) => {
      const page = asPage(storeDocument({ store: config.data.store, ...prepared }));
      const output = objectStoreOf(config, config.output, context);
      return output.put(PAGE, Buffer.from(page), { kind: 'always' });
    },
  });
}
