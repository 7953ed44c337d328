/**
 * Forgets an adgroup or a value of a column. Everything but the logs is derived from them: the rows are taken out of the logs, what
 * was made of them is removed, and every file is searched for what is left. The verbs that made it make it again.
 */

import { readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { resolve, sep } from 'node:path';
import { QianmoError } from '../../shared/base/errors.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';
import { joinAddress } from '../../shared/storage/object-store.js';
import { logsToRewrite, type FileToRewrite } from '../forget/forget-logs.js';
import { servedRowsToRewrite } from '../forget/forget-served-rows.js';
import type { Forgotten } from '../forget/kept-records.js';
import { SCANNED_BYTE_COUNT_MIN, tracesIn, type Traces } from '../forget/traces.js';
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
  /** Files of logs that were written again, with the rows that they lost. */
  readonly rewritten: readonly { readonly name: string; readonly rowCount: number }[];
  /** Places that were removed, because they are made of the logs. */
  readonly removed: readonly string[];
  /** Null if nothing was changed. */
  readonly traces: Traces | null;
  /** What makes again what was removed. */
  readonly commands: readonly string[];
}

/** What commands write into the output of a run. Whatever else lies there is not theirs. */
const OF_OUTPUT =
  /^(?:checkpoints|events|auto|global|plain|bundles|trials|tracking|best\.yaml|(?:data|start|report|sweep|auto|comparison)\b.*\.(?:html|json)|evaluation\b.*\.json|(?:test-logits|crowd-blocks)\b.*\.safetensors)$/;

export async function forgetRows(
  { config: source, adgroup, value, logs = [], also, dryRun }: RequestOf<'forget'>,
  context: RunContext,
): Promise<ForgottenRows> {
  const config = await configOf(RUN_CONFIG, source, context.environment);
  const forgotten = forgottenOf({ adgroup, value }, config);
  const { memoryMiBMax } = config.data;
  const options = { temporaryFolder: tmpdir(), signal: context.signal, memoryMiBMax };
  const addresses = [config.data.logs, logs].flat();
  const work = withDuckSession('forget', options, async (session, temporaryFolder) => {
    const place = {
      ...{ session, temporaryFolder },
      objectStoreOf: (address: string) => objectStoreOf(config, address),
    };
    const names: string[] = [];
    const files: FileToRewrite[] = [];
    const rowLogs: NonNullable<Awaited<ReturnType<typeof rowLogAt>>>[] = [];
    const others: string[] = [];
    for (const address of addresses) {
      const rowLog = await rowLogAt(address, place.objectStoreOf);
      if (rowLog === null) others.push(address);
      else rowLogs.push(rowLog);
      if (rowLog !== null) names.push(address);
    }
    const found = await findLogFiles({ logs: others, format: config.data.format }, place);
    names.push(...found.map(({ name }) => name));
    const inOutput = await derivedIn(config, place.objectStoreOf);
    requireLogsElsewhere(names, [config.data.store, ...inOutput]);
    files.push(...(await logsToRewrite(found, forgotten, place)));
    for (const rowLog of rowLogs) files.push(...(await servedRowsToRewrite(rowLog, forgotten)));
    const rewritten = files.map(({ name, rowCount }) => ({ name, rowCount }));
    const result = { isDryRun: dryRun, rewritten, commands: commandsOf(config, placeOf(source)) };
    const { store, splitFile } = config.data;
    if (dryRun) return { ...result, removed: [store, ...inOutput], traces: null };
    await withClaims(config, context, async () => {
      const target = await openStoreTarget(store, place.objectStoreOf, temporaryFolder);
      try {
        for (const file of files) {
          context.signal.throwIfAborted();
          await file.rewrite();
        }
        await target.remove();
      } finally {
        await target.discard();
      }
      await removeAll(inOutput, place.objectStoreOf);
    });
    // The claims lay there, too.
    const removed = new Set([store, ...inOutput]);
    await removeAll(await derivedIn(config, place.objectStoreOf), place.objectStoreOf);
    const places = [...names, store, config.output, ...(splitFile ?? []), ...also].flat();
    const traces = await tracesIn(places, forgotten.value, place);
    return { ...result, removed: [...removed], traces };
  });
  return work.catch((cause: unknown) => {
    throw context.signal.aborted ? stopped(cause) : cause;
  });
}

function forgottenOf(
  { adgroup, value }: Pick<RequestOf<'forget'>, 'adgroup' | 'value'>,
  { data: { task } }: RunConfig,
): Forgotten {
  if (value !== undefined) {
    const cut = value.indexOf('=');
    return { column: value.slice(0, cut), value: value.slice(cut + 1), isAdgroup: false };
  }
  if (adgroup !== undefined && typeof task === 'string')
    return { column: task, value: adgroup, isAdgroup: true };
  throw new QianmoError({
    kind: 'usage',
    what: 'the rows of an adgroup cannot be told by one column of the logs',
    where: 'data.task',
    expected: 'the name of a column',
    found: JSON.stringify(task),
    cure: 'name a column and its text: --value COLUMN=VALUE',
  });
}

/** @throws QianmoError `usage` if a log would be removed with what is made of logs. */
function requireLogsElsewhere(logs: readonly string[], removed: readonly string[]): void {
  const pathOf = (address: string): string =>
    address.startsWith('s3://') ? address : resolve(objectFolderOf(address));
  for (const log of logs) {
    const inside = removed.find((place) =>
      `${pathOf(log)}${sep}`.startsWith(`${pathOf(place).replace(/\/+$/, '')}${sep}`),
    );
    if (inside === undefined) continue;
    throw new QianmoError({
      kind: 'usage',
      what: 'a log lies in a place that is made of the logs and would be removed',
      where: log,
      expected: `a log outside of ${inside}`,
      cure: 'move the log, and correct data.logs',
    });
  }
}

type StoreOf = (address: string) => ReturnType<typeof objectStoreOf>;

/** Addresses of what commands have written into the output. */
async function derivedIn({ output }: RunConfig, storeOf: StoreOf): Promise<string[]> {
  const names = output.startsWith('s3://')
    ? (await storeOf(output).list('')).map((key) => key.split('/')[0] ?? '')
    : await readdir(objectFolderOf(output)).catch(() => []);
  return [...new Set(names)]
    .filter((name) => OF_OUTPUT.test(name))
    .map((name) => joinAddress(output, name));
}

async function removeAll(addresses: readonly string[], storeOf: StoreOf): Promise<void> {
  for (const address of addresses) {
    if (!address.startsWith('s3://')) {
      await rm(objectFolderOf(address), { recursive: true, force: true });
      continue;
    }
    const cut = address.lastIndexOf('/');
    const [store, name] = [storeOf(address.slice(0, cut)), address.slice(cut + 1)];
    for (const key of await store.list(name))
      if (key === name || key.startsWith(`${name}/`)) await store.delete(key);
  }
}

/** Does the work while no other coordinator trains the run or searches for its model. */
async function withClaims(
  config: RunConfig,
  context: RunContext,
  work: () => Promise<void>,
): Promise<void> {
  const { run } = config;
  const addresses = [
    checkpointAddressOf(config),
    ...(config.auto === undefined ? [] : [searchOutputOf(config.output)]),
  ];
  const releases: (() => Promise<void>)[] = [];
  try {
    for (const address of addresses) {
      const claim = await claimedPlace(config, { run, address }, context);
      if (claim !== null) releases.push(() => claim.release());
    }
    await work();
  } finally {
    for (const release of releases) await release();
  }
}

function commandsOf(config: RunConfig, source: string): string[] {
  const made = config.auto === undefined ? ['train', 'evaluate'] : ['auto'];
  return ['prepare', ...made, 'export'].map((verb) => `qianmo ${verb} ${source}`);
}

function stopped(cause: unknown): QianmoError {
  return new QianmoError({
    kind: 'interrupted',
    what: 'forget was stopped; every log is whole, with the rows or without them',
    cure: 'run the same command again',
    cause,
  });
}

/** The error of a system that still holds the id; undefined if nothing was found. */
export function tracesLeft({ traces }: ForgottenRows): QianmoError | undefined {
  if (traces === null || traces.found.length === 0) return undefined;
  return new QianmoError({
    kind: 'data',
    what: 'the id is still found',
    where: traces.found[0] ?? '',
    expected: 'no file that holds it',
    found: `\n${traces.found.map((name) => `    ${name}`).join('\n')}`,
    cure: 'logs: name them with --logs; state of a server: remove the adgroup by POST /v1/adgroups, or the state folder while the server is stopped; bundles and anything else: remove the files; then run the same command again',
  });
}

/** The lines that tell of it. */
export function forgottenText(result: ForgottenRows): string {
  const { isDryRun, rewritten, removed, traces, commands } = result;
  const would = isDryRun ? 'would be ' : '';
  const lines = [
    ...rewritten.map(
      ({ name, rowCount }) => `${would}written again without ${rowCount} rows or lines: ${name}`,
    ),
    ...(rewritten.length === 0 ? ['no log has such rows'] : []),
    ...removed.map((address) => `${would}removed: ${address}`),
  ];
  if (traces === null) return lines.join('\n');
  const { fileCount, byteCount, skipped, found } = traces;
  if (skipped.length > 0)
    lines.push(
      `not looked through, because the id has fewer than ${SCANNED_BYTE_COUNT_MIN} bytes or the file is compressed: ${skipped.length} files, as ${skipped.slice(0, 3).join(', ')}`,
    );
  lines.push(
    `looked through ${fileCount} files with ${byteCount} bytes: ${found.length === 0 ? 'no trace of the id' : 'it is still there'}`,
    `To make again what was removed:`,
    ...commands.map((command) => `  ${command}`),
  );
  return lines.join('\n');
}
