/** A row server in a child process of the coordinator. */

import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { nativeRowsPath } from '../../shared/tensors/native-rows.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { PieceAnswer, PieceDemand, PiecePlace } from '../checkpoints/table-snapshot.js';
import type {
  RowServer,
  RowServerPlan,
  RowStep,
  StartTables,
  TablesOfCheckpoint,
} from './row-server.js';
import {
  errorOfReply,
  RowServerReplySchema,
  type RowServerReply,
  type RowServerRequest,
} from './row-server-protocol.js';

/** The compiled entry beside this file. */
const ENTRY = fileURLToPath(new URL('./row-server-entry.js', import.meta.url));
const CLOSE_TIMEOUT_MS = 2_000;
/** Drawing or reading all rows of a server. */
const FILL_TIMEOUT_MS = 3_600_000;
const CALL_TIMEOUT_MS = 600_000;
const WORDS_LENGTH_MAX = 2_000;

interface ProcessOptions {
  readonly plan: RowServerPlan;
  readonly checkpoints: { readonly address: string; readonly storage: RunConfig['storage'] };
  /** The whole environment of the child. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
}

/** @throws QianmoError `environment` if the process ends or does not answer. */
export async function startRowServer(options: ProcessOptions): Promise<RowServer> {
  const { plan, checkpoints } = options;
  const server = new RowServerProcess(options);
  await server.ask({ call: 'start', plan: planMessageOf(plan), checkpoints }, 'done');
  return server;
}

/** The plan without the rest of a model that its frame may be part of. */
function planMessageOf({ frame, ...plan }: RowServerPlan): RowServerPlan {
  const { tables, tableRowWidth, hasLinear } = frame;
  const sent = tables.map(({ name, rowCount, initial }) => ({ name, rowCount, initial }));
  return { ...plan, frame: { tables: sent, tableRowWidth, hasLinear } };
}

type WithoutId<Request> = Request extends unknown ? Omit<Request, 'requestId'> : never;
type Answer = Extract<RowServerReply, { kind: 'done' | 'rows' | 'piece' }>;
type AnswerOf<Kind extends Answer['kind']> = Extract<Answer, { kind: Kind }>;

interface OpenCall {
  readonly answer: (reply: RowServerReply) => void;
  readonly fail: (error: Error) => void;
}

class RowServerProcess implements RowServer {
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  readonly #name: string;
  readonly #open = new Map<number, OpenCall>();
  #requestId = 0;
  #end: QianmoError | null = null;
  /** The last words of a process that crashes. */
  #words = '';

  constructor({ plan, environment, clock }: ProcessOptions) {
    this.#clock = clock;
    this.#name = `row server ${plan.server + 1} of ${plan.serverCount}`;
    this.#child = forkedEntry(environment);
    this.#child.on('message', (message) => this.#receive(RowServerReplySchema.parse(message)));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#words = `${this.#words}${text}`.slice(-WORDS_LENGTH_MAX);
    });
    this.#child.once('error', (error) => this.#ended(error.message));
    this.#child.once('exit', (code, signal) =>
      this.#ended(signal === null ? `exit code ${code ?? 'unknown'}` : `signal ${signal}`),
    );
  }

  async fresh(seed: number, start?: StartTables): Promise<void> {
    const from =
      start === undefined ? {} : { from: { address: start.address, tables: [...start.tables] } };
    await this.ask({ call: 'fresh', seed, ...from }, 'done', FILL_TIMEOUT_MS);
  }

  async load(checkpoint: TablesOfCheckpoint): Promise<void> {
    const { outerStep, tables, optimizerTables } = checkpoint;
    const wanted = { outerStep, tables: [...tables], optimizerTables: [...optimizerTables] };
    await this.ask({ call: 'load', checkpoint: wanted }, 'done', FILL_TIMEOUT_MS);
  }

  async gather(ids: readonly Int32Array[]): Promise<Float32Array> {
    return (await this.ask({ call: 'gather', ids: [...ids] }, 'rows')).rows;
  }

  async step({ outerStep, scalars, rows }: RowStep): Promise<void> {
    const step = { outerStep, scalars: { ...scalars }, rows: new Map(rows) };
    await this.ask({ call: 'step', step }, 'done');
  }

  async freeze(): Promise<void> {
    await this.ask({ call: 'freeze' }, 'done');
  }

  async storePiece(place: PiecePlace, demand: Omit<PieceDemand, 'put'>): Promise<PieceAnswer> {
    const { blob, values } = await this.ask({ call: 'storePiece', place, demand }, 'piece');
    return { blob, values };
  }

  async close(): Promise<void> {
    if (this.#end !== null) return;
    const exited = new AbortController();
    const exit = new Promise<void>((resolve) => {
      this.#child.once('exit', () => {
        exited.abort();
        resolve();
      });
    });
    if (this.#child.connected) this.#child.disconnect();
    await this.#clock.sleep(CLOSE_TIMEOUT_MS, exited.signal);
    if (!exited.signal.aborted) this.#child.kill('SIGKILL');
    await exit;
  }

  async ask<Kind extends Answer['kind']>(
    request: WithoutId<RowServerRequest>,
    kind: Kind,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<AnswerOf<Kind>> {
    if (this.#end !== null) throw this.#end;
    this.#requestId += 1;
    const requestId = this.#requestId;
    const settled = new AbortController();
    try {
      return await new Promise<AnswerOf<Kind>>((resolve, reject) => {
        this.#open.set(requestId, {
          answer: (reply) => {
            if (reply.kind === 'failed' || reply.kind === 'broken') reject(errorOfReply(reply));
            else if (isAnswer(reply, kind)) resolve(reply);
            else reject(new Error(`${this.#name} answered ${request.call} with ${reply.kind}`));
          },
          fail: reject,
        });
        // A channel that broke is followed by the end of the process.
        this.#child.send({ ...request, requestId }, () => undefined);
        void this.#watch(request.call, timeoutMs, settled.signal);
      });
    } finally {
      settled.abort();
      this.#open.delete(requestId);
    }
  }

  async #watch(call: string, timeoutMs: number, settled: AbortSignal): Promise<void> {
    await this.#clock.sleep(timeoutMs, settled);
    if (settled.aborted) return;
    this.#ended(`no answer to "${call}" within ${timeoutMs} ms`);
    this.#child.kill('SIGKILL');
  }

  #receive(reply: RowServerReply): void {
    this.#open.get(reply.requestId)?.answer(reply);
  }

  #ended(how: string): void {
    this.#end ??= new QianmoError({
      kind: 'environment',
      what: 'a row server ended, and with it the rows that it held',
      where: this.#name,
      found: this.#words === '' ? how : `${how}\n${this.#words}`,
      cure:
        'continue from the last checkpoint with --resume; if memory ran out, raise ' +
        'training.tableShards or use a machine with more memory',
    });
    for (const { fail } of this.#open.values()) fail(this.#end);
  }
}

function isAnswer<Kind extends Answer['kind']>(reply: Answer, kind: Kind): reply is AnswerOf<Kind> {
  return reply.kind === kind;
}

function forkedEntry(environment: ProcessOptions['environment']): ChildProcess {
  if (!existsSync(ENTRY))
    throw new QianmoError({
      kind: 'environment',
      what: 'the row server is not built',
      where: ENTRY,
      cure: 'run: npm run build',
    });
  const rowsPath = nativeRowsPath();
  return fork(ENTRY, rowsPath === null ? [] : ['--native-rows', rowsPath], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...environment },
  });
}
