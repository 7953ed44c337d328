/** The input and the outcome of the outer loop. */

import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { Checkpoints } from '../checkpoints/checkpoint-writer.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import type { TrainingState } from '../checkpoints/checkpoint-manifest.js';

export interface TrainOptions {
  readonly run: PreparedRun;
  readonly dispatcher: Dispatcher;
  readonly checkpoints: Checkpoints;
  readonly start: RunStart;
  /**
   * Stop after this outer step, with a checkpoint. Schedules follow the full length of the run, so
   * stopping and continuing changes no bit.
   */
  readonly stopAtOuterStep?: number;
  /** The loss of the validation adgroups, where training stops early by it. */
  readonly validationLoss?: (parameters: MetaParameters) => Promise<number>;
  readonly caller: RunCaller;
}

/** Parameters of another run, from which this one starts. */
export interface StartFrom {
  readonly metaParameters: MetaParameters;
  /** The name of that run, for messages. */
  readonly where?: string;
}

/** Where a training begins: at a checkpoint of the run, at the parameters of another, or afresh. */
interface RunStart {
  readonly resume: boolean;
  /** The number of outer steps to train to, instead of that of the checkpoint or the config. */
  readonly extendTo?: number;
  /** Start at outer step 0 even if a checkpoint of this run exists. */
  readonly fresh?: boolean;
  readonly startFrom?: StartFrom;
}

export interface TrainingOutcome {
  /** After the last outer step. */
  readonly state: TrainingState;
  /** Those of the last outer step, or of the best one where training stops early. */
  readonly metaParameters: MetaParameters;
  readonly address: string;
  readonly digest: string;
  readonly outerSteps: number;
}
