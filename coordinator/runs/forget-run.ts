/**
 * Forgets an adgroup or a value of a column. Everything but the logs is made of them: the rows are taken out of the logs, what was
 * made of them is removed, and every file is searched for what is left. The verbs that made it make it again.
 */

import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { errorOf } from '../../shared/base/errors.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';
import { isObjectKey, joinAddress, type ObjectStore } from '../../shared/storage/object-store.js';
import { logsToRewrite, type FileToRewrite, type Forgotten } from '../logs/forget-rows.js';
import { servedRowsToRewrite } from '../logs/forget-served-rows.js';
import { tracesIn, type Traces } from '../logs/traces.js';
import { findLogFiles } from '../logs/log-files.js';
import { rowLogAt } from '../logs/row-log.js';
import { withDuckSession } from '../logs/work-folder.js';
import { openStoreTarget } from '../prepare/store-target.js';
import { configOf, placeOf, searchOutputOf } from './places.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';
import { checkpointAddressOf, claimedPlace, objectStoreOf } from './run-files.js';

export interface ForgottenRows {
  readonly isDryRun: boolean;
  /** With the number of rows that a file lost, or of lines of a row log that changed. */
  readonly rewritten: readonly Pick<FileToRewrite, 'name' | 'rowCount'>[];
  readonly removed: readonly string[];
  /** Null if nothing was changed. */
  readonly traces: Traces | null;
  /** What makes again what was removed. */
  readonly commands: readonly string[];
}

/** What commands write into the output of a run. Whatever else lies there is not theirs. */
const OF_OUTPUT =
  /^(?:(?:checkpoints|events|auto|global|plain|bundles|trials|tracking)\/.+|best\.yaml|(?:data|start|report|sweep|auto|comparison)\b.*\.(?:html|json)|evaluation\b.*\.json|(?:test-logits|crowd-blocks)\b.*\.safetensors)$/;

export async function forgetRows(
  request: RequestOf<'forget'>,
  context: RunContext,
): Promise<ForgottenRows> {
  const { config: source, logs = [], also, dryRun } = request;
  const config = await configOf(RUN_CONFIG, source, context.environment);
  const forgotten = forgottenOf(request, config);
  const { store, splitFile, memoryMiBMax, format } = config.data;
  const storeOf = (address: string): ObjectStore => objectStoreOf(config, address);
  const output = storeOf(config.output);
  const work = { temporaryFolder: tmpdir(), signal: context.signal, memoryMiBMax };
  return withDuckSession('forget', work, async (session, temporaryFolder) => {
    const place = { session, temporaryFolder, objectStoreOf: storeOf };
    const [files, places, others] = [[] as FileToRewrite[], [] as string[], [] as string[]];
    for (const address of [config.data.logs, logs].flat()) {
      const rowLog = await rowLogAt(address, storeOf);
      (rowLog === null ? others : places).push(address);
      if (rowLog !== null) files.push(...(await servedRowsToRewrite(rowLog, forgotten)));
    }
    const found = await findLogFiles({ logs: others, format }, place);
    files.push(...(await logsToRewrite(found, forgotten, place)));
    places.push(...found.map(({ name }) => name), ...(splitFile === undefined ? [] : [splitFile]));
    const isDerived = (key: string): boolean => OF_OUTPUT.test(key) && isObjectKey(key);
    const keys = (await output.list('')).filter(isDerived);
    const tops = [...new Set(keys.map((key) => key.split('/')[0] ?? ''))];
    const removed = [store, ...tops.map((name) => joinAddress(config.output, name))];
    requireLogsElsewhere(places, removed);
    const rewritten = files.map(({ name, rowCount }) => ({ name, rowCount }));
    const verbs = ['prepare', ...(config.auto === undefined ? ['train', 'evaluate'] : ['auto'])];
    const commands = [...verbs, 'export'].map((verb) => `qianmo ${verb} ${placeOf(source)}`);
    const result = { isDryRun: dryRun, rewritten, removed, commands };
    if (dryRun) return { ...result, traces: null };
    const target = await openStoreTarget(store, storeOf, temporaryFolder);
    try {
      // Until the call ends, no other coordinator trains the run or searches for its model.
      const search = config.auto === undefined ? [] : [searchOutputOf(config.output)];
      for (const address of [checkpointAddressOf(config), ...search]) {
        const claim = await claimedPlace(config, { run: config.run, address }, context);
        if (claim !== null) context.onClose(() => claim.release());
      }
      for (const file of files) {
        context.signal.throwIfAborted();
        await file.rewrite();
      }
      await target.remove();
      for (const key of (await output.list('')).filter(isDerived)) await output.delete(key);
    } finally {
      await target.discard();
    }
    const searched = [...places, store, config.output, ...also];
    return { ...result, traces: await tracesIn(searched, forgotten.value, place) };
  }).catch((cause: unknown) => {
    if (!context.signal.aborted) throw cause;
    const what = 'forget was stopped; each log is whole, with the rows or without them';
    throw errorOf('interrupted', what, { cause, cure: 'run the same command again' });
  });
}

function forgottenOf({ adgroup, value }: RequestOf<'forget'>, { data }: RunConfig): Forgotten {
  const [, column, text] = /^([^=]+)=(.+)$/s.exec(value ?? '') ?? [];
  if (column !== undefined && text !== undefined) return { column, value: text, isAdgroup: false };
  if (adgroup !== undefined && typeof data.task === 'string')
    return { column: data.task, value: adgroup, isAdgroup: true };
  throw errorOf('usage', 'it is not said by a column of the logs which rows to forget', {
    where: '--adgroup or --value',
    expected: '--adgroup ID, if data.task names a column, or --value COLUMN=VALUE',
    found: `data.task: ${JSON.stringify(data.task)}`,
    cure: 'name a column and its text: --value COLUMN=VALUE',
  });
}

/** @throws QianmoError `usage` if a log would be removed with what is made of logs. */
function requireLogsElsewhere(logs: readonly string[], removed: readonly string[]): void {
  const pathOf = (address: string): string =>
    `${address.startsWith('s3://') ? address : resolve(objectFolderOf(address))}/`;
  const log = logs.find((each) => removed.some((place) => pathOf(each).startsWith(pathOf(place))));
  if (log === undefined) return;
  throw errorOf('usage', 'a log lies in a place that is made of the logs and would be removed', {
    where: log,
    expected: `logs outside of ${removed.join(', ')}`,
    cure: 'move the log, and correct data.logs',
  });
}

/** What is printed of it, with the error of a system that still holds the id. */
export function shownForgotten(result: ForgottenRows) {
  const { isDryRun, rewritten, removed, traces, commands } = result;
  const would = isDryRun ? 'would be ' : '';
  const lines = [
    ...rewritten.map(({ name, rowCount }) => `${would}written without ${rowCount} rows: ${name}`),
    ...removed.map((address) => `${would}removed: ${address}`),
  ];
  if (traces === null) return { text: lines.join('\n'), json: result };
  const { fileCount, byteCount, skipped, found } = traces;
  if (skipped.length > 0)
    lines.push(`not looked through (id too short, or compressed): ${skipped.join(', ')}`);
  const many = found.length === 0 ? 'no trace' : 'traces';
  lines.push(`${many} of the id in ${fileCount} files of ${byteCount} bytes`);
  lines.push('to make again what was removed:', ...commands);
  const shown = { text: lines.join('\n'), json: result };
  if (found.length === 0) return shown;
  const failure = errorOf('data', 'the id is still found', {
    expected: 'no file that holds it',
    found: `\n${found.map((name) => `    ${name}`).join('\n')}`,
    cure: 'logs: name them with --logs; state of a server: stop it and remove its folder; other files: remove them; then run the same command again',
  });
  return { ...shown, failure };
}
