/**
 * A run that stays open: its store and its workers serve one call after another, so that training
 * and evaluating start them once.
 */

import type { z } from 'zod';
import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import { runEventSink, sinksTogether, type RunEventSink } from '../../shared/events/run-events.js';
import { requirePredictionsPath } from '../evaluation/predictions.js';
import type { EvaluationReport } from '../scoring/evaluation-report.js';
import { chosenConfigOf } from './config-sources.js';
import { dispatchForRun, openedBesideStart } from './dispatch-for-run.js';
import { evaluatedRun } from './evaluate-run.js';
import { failedEvent, loggedSink, trackedCallOf } from './logged-run.js';
import {
  checkedRequest,
  EvaluationChoiceSchema,
  TrainingStartSchema,
  type EvaluationChoice,
  type OpenRequestSchema,
  type TrainingStart,
} from './requests.js';
import type { RunContext } from './run-context.js';
import { openPreparedRun } from './run-files.js';
import {
  openRunContext,
  startRun,
  type CallOptions,
  type RunHandle,
  type Surroundings,
} from './run-handle.js';
import { trainedRun, type TrainingResult } from './train-run.js';

/** The environment is that of the open run. */
export type OpenRunCallOptions = Omit<CallOptions, 'environment'>;

export interface OpenRun {
  readonly config: RunConfig;
  /** Like `train`; one call at a time. */
  train(start?: TrainingStart, options?: OpenRunCallOptions): RunHandle<TrainingResult>;
  /** Like `evaluate`; one call at a time. */
  evaluate(
    choice?: EvaluationChoice,
    options?: OpenRunCallOptions,
  ): RunHandle<readonly EvaluationReport[]>;
  /** Interrupts the call under way, waits for its end, and stops everything that the run started. */
  close(): Promise<void>;
}

/** Resolves when the store and the workers are ready. If it rejects, nothing is left running. */
export async function openRun(
  request: z.output<typeof OpenRequestSchema>,
  surroundings: Surroundings,
  { signal, onEvent }: CallOptions,
): Promise<OpenRun> {
  const { clock } = surroundings;
  const listeners = new Set<RunEventSink>();
  if (onEvent !== undefined) listeners.add(runEventSink({ clock }, onEvent));
  const tellAll: RunEventSink = (...event) => sinksTogether(...listeners)(...event);
  const closing = new AbortController();
  const stopping = AbortSignal.any([closing.signal, ...(signal === undefined ? [] : [signal])]);
  const opened = openRunContext(surroundings, stopping, tellAll);
  try {
    opened.context.signal.throwIfAborted();
    const config = await chosenConfigOf(request.config, surroundings.environment);
    // One log for all calls: workers report when they start, which is before the first call.
    const logged = await loggedSink(trackedCallOf('open run', config), opened.context);
    const named = { ...opened.context, sink: logged };
    const [run, dispatch] = await openedBesideStart(
      named,
      () => openPreparedRun(config, named),
      (starting) => dispatchForRun(config, { runId: config.run }, request, starting),
    );
    const turns = turnsOf(config, surroundings, { stopping, listeners, logged });
    return {
      config,
      train: (start = {}, options = {}) =>
        turns.call(options, (context) => {
          const request = checkedRequest(TrainingStartSchema, start, 'train');
          return trainedRun(run, dispatch, request, context);
        }),
      evaluate: (choice = {}, options = {}) =>
        turns.call(options, async (context) => {
          const settings = checkedRequest(EvaluationChoiceSchema, choice, 'evaluate');
          if (settings.predictions !== undefined)
            await requirePredictionsPath(settings.predictions);
          return evaluatedRun(run, dispatch, settings, context);
        }),
      close: async () => {
        closing.abort();
        await turns.underWay();
        await opened.close();
      },
    };
  } catch (error) {
    await opened.close().catch(() => undefined);
    throw failureOfSystemError(error) ?? error;
  }
}

interface SharedByCalls {
  /** Ends the run. */
  readonly stopping: AbortSignal;
  readonly listeners: Set<RunEventSink>;
  readonly logged: RunEventSink;
}

/** The calls of an open run, one at a time. A call receives the events of the workers too. */
function turnsOf(
  config: RunConfig,
  surroundings: Surroundings,
  { stopping, listeners, logged }: SharedByCalls,
) {
  /** Resolves when the call under way has ended; null between calls. */
  let underWay: Promise<void> | null = null;
  const call = <Result>(
    { signal: stop, onEvent: tell }: OpenRunCallOptions,
    work: (context: RunContext) => Promise<Result>,
  ): RunHandle<Result> => {
    const signals = stop === undefined ? [stopping] : [stopping, stop];
    const options = { onEvent: tell, signal: AbortSignal.any(signals) };
    return startRun(surroundings, options, async (context) => {
      if (underWay !== null)
        throw new QianmoError({
          ...{ kind: 'usage', what: 'the open run has a call under way' },
          ...{ where: `run ${config.run}`, cure: 'await the call before the next one' },
        });
      let settle = (): void => undefined;
      underWay = new Promise((resolve) => (settle = resolve));
      listeners.add(context.sink);
      try {
        return await work({ ...context, sink: logged });
      } catch (error) {
        const failure = failureOfSystemError(error) ?? error;
        logged(failedEvent(failure));
        throw failure;
      } finally {
        listeners.delete(context.sink);
        underWay = null;
        settle();
      }
    });
  };
  return { call, underWay: () => underWay };
}
