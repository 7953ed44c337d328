/**
 * An entry of the table of verbs. The function of the library, the command with its options and help, and the
 * reference of options are made from it.
 */

import { once } from 'node:events';
import { rowAddon } from '#bootstrap/native-addons.mjs';
import type { z } from 'zod';
import type { Document } from '../../coordinator/reports/document/document.js';
import type { RunContext } from '../../coordinator/runs/run-context.js';
import {
  startRun,
  type CallOptions,
  type RunHandle,
  type Surroundings,
} from '../../coordinator/runs/run-handle.js';
import { checkedRequest } from '../../coordinator/runs/requests.js';
import { systemClock, type Clock } from '../../shared/base/clock.js';
import type { QianmoError } from '../../shared/base/errors.js';
import type { StampedEventSink } from '../../shared/events/run-events.js';
import { loadNativeRows } from '../../shared/tensors/native-rows.js';
import { localMachine } from './local-machine.js';
import { packageVersion } from './package-root.js';

type Fields = z.core.$ZodLooseShape;
type Values<Shape extends Fields> = z.output<z.ZodObject<Shape>>;

/** A result as it is printed: a document, or text and JSON for programs. */
export type Shown =
  | Document
  | {
      readonly text: string | readonly Document[];
      readonly json: unknown;
      /** Thrown after the result is printed. */
      readonly failure?: QianmoError;
    };

/** The surroundings of a command. */
export interface CommandSurroundings {
  readonly clock: Clock;
  /** Aborts when the command must stop. */
  readonly signal: AbortSignal;
  /** The options of every call of the library. */
  readonly options: CallOptions;
  /** Writes text to standard output. */
  readonly print: (text: string) => void;
  /** Prints a result in the format that the command line names. */
  readonly show: (shown: Shown) => void;
}

/** How the command line offers an entry. */
interface Command<Schema extends z.ZodObject, Extra extends Fields> {
  readonly request: Schema;
  readonly about: string;
  /** The words after `qianmo`, if they are not the name of the function; null if no command is made. */
  readonly command?: string | null;
  /** Fields of the request that are arguments, in this order. */
  readonly operands?: readonly (keyof Schema['shape'] & string)[];
  /** Options of the command alone. One with the name of a field takes its place. */
  readonly extra?: Extra;
  /** The option of `extra` that selects this entry instead of the one before it with the same command. */
  readonly when?: keyof Extra & string;
  /** Takes `--plugin`: the files are loaded before the verb runs. */
  readonly plugins?: true;
  /** Takes options for metrics, and `all` one for events as lines of JSON. */
  readonly watched?: 'metrics' | 'all';
  /** Follows the list of options in the help; holds an example. */
  readonly help?: string;
}

type Show<Result, Extra extends Fields> = (
  result: Result,
  extra: Values<Extra>,
  around: CommandSurroundings,
) => Shown | Promise<Shown>;

/** An entry without its types, as the command line and the reference read it. */
export interface Verb {
  /** The function of the library, or the command. */
  readonly name: string;
  readonly entry: Omit<Command<z.ZodObject, Fields>, never>;
  /** The library has a function of this name. */
  readonly isOfLibrary: boolean;
  readonly takesFormat: boolean;
  /** @param request accepted by the schema of the entry, and not transformed yet */
  readonly act: (request: object, extra: object, around: CommandSurroundings) => Promise<void>;
}

const table: Verb[] = [];
/** In the order of their declarations. */
export const declaredVerbs: readonly Verb[] = table;

/** The request of a function of the library: `RequestOf<typeof train>`. */
export type RequestOf<Call extends (...given: never[]) => unknown> = NonNullable<
  Parameters<Call>[0]
>;
/** The result of a function of the library: `ResultOf<typeof train>`. */
export type ResultOf<Call extends (...given: never[]) => unknown> = Awaited<ReturnType<Call>>;

/** The request may be left out if no field of it is required. */
type CallArguments<Request> =
  Partial<Request> extends Request
    ? [request?: Request, options?: CallOptions]
    : [request: Request, options?: CallOptions];

/** Declares a function that does its work and settles, with its command. */
export function call<Schema extends z.ZodObject, Result, Extra extends Fields = Fields>(
  name: string,
  entry: Command<Schema, Extra> & {
    /** Loads the function that does the work. */
    readonly run: () => Promise<
      (request: z.output<Schema>, context: RunContext, options: CallOptions) => Promise<Result>
    >;
    /** Nothing is printed, and no format is taken, if absent. */
    readonly show?: Show<Result, Extra>;
    /** Receives events instead of standard error, unless it is null. */
    readonly onEvent?: (
      extra: Values<Extra>,
      around: CommandSurroundings,
    ) => Promise<StampedEventSink | null>;
    /** Runs after the result was printed. */
    readonly after?: (
      result: Result,
      extra: Values<Extra>,
      around: CommandSurroundings,
    ) => Promise<void>;
    /** The call ends without a failure if it is stopped, also before it began. */
    readonly untilStopped?: true;
  },
) {
  const { request: schema, run, show, untilStopped = false } = entry;
  const started = (request: z.input<Schema> | undefined, options: CallOptions) =>
    startRun(
      { ...surroundingsOf(options), ...(untilStopped ? { source: 'worker' } : {}) },
      options,
      async (context) => {
        const work = await run();
        return work(checkedRequest(schema, request ?? {}, name), context, options);
      },
    );
  declare(
    name,
    entry,
    { isOfLibrary: true, takesFormat: show !== undefined },
    async (request, extra, around) => {
      if (untilStopped && around.signal.aborted) return;
      const onEvent = (await entry.onEvent?.(extra, around)) ?? around.options.onEvent;
      const result = await started(request, { ...around.options, onEvent });
      if (show !== undefined) around.show(await show(result, extra, around));
      await entry.after?.(result, extra, around);
    },
  );
  return (...[request, options = {}]: CallArguments<z.input<Schema>>): RunHandle<Result> =>
    started(request, options);
}

/** Declares a function that opens a service, which its caller closes. The command serves until it is stopped. */
export function service<
  Schema extends z.ZodObject,
  Result extends { readonly close: () => Promise<void> },
  Extra extends Fields = Fields,
>(
  name: string,
  entry: Command<Schema, Extra> & {
    /** Loads the function that opens the service. */
    readonly open: () => Promise<
      (request: z.output<Schema>, around: Surroundings, options: CallOptions) => Promise<Result>
    >;
    readonly show?: Show<Result, Extra>;
  },
) {
  const opened = async (request: unknown, options: CallOptions): Promise<Result> => {
    const open = await entry.open();
    return open(checkedRequest(entry.request, request, name), surroundingsOf(options), options);
  };
  declare(name, entry, { isOfLibrary: true, takesFormat: true }, async (request, extra, around) => {
    const serving = await opened(request, around.options);
    try {
      if (entry.show !== undefined) around.show(await entry.show(serving, extra, around));
      if (!around.signal.aborted) await once(around.signal, 'abort');
    } finally {
      await serving.close();
    }
  });
  return (request: z.input<Schema>, options: CallOptions = {}): Promise<Result> =>
    opened(request, options);
}

/** Declares a command without a function of the library. */
export function command<Schema extends z.ZodObject>(
  name: string,
  entry: Command<Schema, Fields> & {
    readonly takesFormat?: true;
    readonly act: (request: z.output<Schema>, around: CommandSurroundings) => Promise<void> | void;
  },
): void {
  const { takesFormat = false } = entry;
  declare(name, entry, { isOfLibrary: false, takesFormat }, async (request, _extra, around) => {
    await entry.act(entry.request.parse(request), around);
  });
}

function declare<Schema extends z.ZodObject, Extra extends Fields>(
  name: string,
  entry: Command<Schema, Extra>,
  kind: Pick<Verb, 'isOfLibrary' | 'takesFormat'>,
  act: (
    request: z.input<Schema>,
    extra: Values<Extra>,
    around: CommandSurroundings,
  ) => Promise<void>,
): void {
  table.push({
    ...{ name, entry, ...kind },
    // The command line has read both by the schemas of this entry.
    act: async (request, extra, around) => {
      await act(request as z.input<Schema>, extra as Values<Extra>, around);
    },
  });
}

/** The only place of the library that reads the environment of the process, and loads what this machine has compiled. */
export function surroundingsOf({
  environment = process.env,
  ownEnvironment,
}: CallOptions): Surroundings {
  loadNativeRows(rowAddon.path());
  return {
    ...{ machine: localMachine, clock: systemClock, version: packageVersion },
    ...{ environment, ownEnvironment },
  };
}
