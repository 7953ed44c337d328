/**
 * Adgroups of a bundle adapt by the `adapt` jobs that an export sends, with rows of clients in place of a store's. A job
 * brings all that it reads, and its answer is the blob that an export packs.
 */

import { at } from '../../../shared/base/arrays.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { EncodedRows } from '../../../shared/features/row-encoder.js';
import {
  adaptedLayoutOf,
  decodeAdaptedTasks,
  type AdaptedTask,
} from '../../../shared/bundle/adapted-tasks.js';
import type { JobInput, JobOutput } from '../../../shared/queue/job-executor.js';
import { PROTOCOL_VERSION, type Adaptation } from '../../../shared/queue/protocol.js';
import { blobRefOf, type BlobRef } from '../../../shared/storage/blob-store.js';
import { encodeRowPack, rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import type { LossKind } from '../../../shared/tasks/task-label.js';
import { type TaskRows, withTrainedPadding } from '../../../shared/tasks/task-store.js';
import { encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import type { Coverage } from '../scoring-plan.js';

export type AdaptInput = JobInput;

/** What computes adapt jobs: a compute process, or the parent of this process, which has one. */
export interface AdaptEngine {
  /**
   * Has it ready before the first job.
   *
   * @throws QianmoError `environment` if the engine does not load here.
   */
  start(): Promise<void>;
  /** @throws QianmoError as `JobExecutor` does. */
  execute(input: AdaptInput): Promise<Pick<JobOutput, 'output'>>;
}

/** Encoded rows with their labels, `[rowCount]`. */
export interface LabelledRows {
  readonly rows: EncodedRows;
  readonly loss: LossKind;
  /** Clicks, or weight times the standardised value. */
  readonly clicks: Float32Array;
  readonly impressions: Float32Array;
}

/** Padded rows that are computed at once; a larger adgroup is computed alone. */
const MICRO_BATCH_ROWS_MAX = 4_096;
/** Keeps one adgroup from being padded to the shape of several, which takes twice as long. */
const LONE_ROWS_MAX = 1;
/** Far longer than any job takes; a process that is stuck is replaced. */
const JOB_TIMEOUT_MS = 60_000;

/** Returns whether adgroups of the bundle adapt from rows alone; if not, why. */
export function adaptationCoverage({ model }: Pick<LoadedBundle, 'model'>): Coverage {
  if (model.shift !== null && model.shift.features.length > 0)
    return { isCovered: false, reason: 'levelShift.features adapts in an export alone' };
  return { isCovered: true };
}

export class AdaptJobs {
  readonly #digest: string;
  readonly #loaded: LoadedBundle;
  readonly #variables: { readonly bytes: Uint8Array; readonly ref: BlobRef };
  readonly #noVariables: { readonly bytes: Uint8Array; readonly ref: BlobRef };

  /** @param digest of the bundle. */
  constructor(digest: string, loaded: LoadedBundle) {
    this.#digest = digest;
    this.#loaded = loaded;
    // Personal ones as all tasks share them, and not those of block 0.
    const { dense, sharedStart } = loaded.model;
    this.#variables = referred(encodeTensors(new Map([...dense, ...sharedStart])));
    this.#noVariables = referred(encodeTensors(new Map()));
  }

  /** The job that adapts some adgroups alike. */
  inputOf(adgroups: readonly LabelledRows[], adaptation: Adaptation): AdaptInput {
    const { model: config, method, encodedFeatures: features } = this.#loaded.manifest;
    const { spec, tables } = this.#loaded.model;
    const tasks = adgroups.map((rows, taskIndex) => this.#taskOf(rows, taskIndex));
    const [dense, frozen] = [this.#noVariables, this.#variables];
    return {
      job: {
        ...{ protocolVersion: PROTOCOL_VERSION, runId: this.#digest, epoch: 0 },
        ...{ outerStep: 0, jobIndex: 0, device: 'cpu', portable: false },
        ...{ dense: dense.ref, frozen: frozen.ref },
        ...{ timeoutMs: JOB_TIMEOUT_MS, blobLifetimeMs: JOB_TIMEOUT_MS },
        store: {
          ...{ address: 'given', digest: this.#digest },
          storage: { s3Region: 'none', s3ForcePathStyle: true },
        },
        ...{ model: config, taskIndices: [...tasks.keys()] },
        microBatchRowsMax: tasks.length === 1 ? LONE_ROWS_MAX : MICRO_BATCH_ROWS_MAX,
        work: { kind: 'adapt', method, adaptation, rows: 'all' },
      },
      ...{ dense: dense.bytes, frozen: frozen.bytes, given: { features, tasks } },
      rowPack:
        tables.size === 0
          ? null
          : encodeRowPack(tables, rowPackLayoutOf(tasks), spec.tableRowWidth),
    };
  }

  /** @throws QianmoError `data` if the output is not that of such a job. */
  adaptedIn(output: Uint8Array, adaptation: Adaptation, count: number): readonly AdaptedTask[] {
    const { model, manifest } = this.#loaded;
    const layout = adaptedLayoutOf(model.spec, { method: manifest.method, adaptation });
    const indices = Array.from({ length: count }, (_, index) => index);
    return decodeAdaptedTasks(output, layout, indices, 'adapted adgroups').tasks;
  }

  #taskOf({ rows, loss, clicks, impressions }: LabelledRows, taskIndex: number): TaskRows {
    const { rowCount, categoryIds, numbers } = rows;
    const { options, tables, categoryFeatures } = this.#loaded.model.spec;
    const paddingIdOf = (bag: number): number =>
      at(tables, categoryFeatures.length + bag).rowCount - 1;
    return {
      ...{ taskIndex, rowCount, supportRowCount: rowCount, loss, categoryIds, numbers },
      bagIds: withTrainedPadding(options, rows.bagIds, paddingIdOf),
      ...{ clicks, impressions, oracle: null },
      times: new Float64Array(rowCount),
      logRows: new Float64Array(rowCount),
    };
  }
}

function referred(bytes: Uint8Array): { readonly bytes: Uint8Array; readonly ref: BlobRef } {
  return { bytes, ref: blobRefOf(bytes) };
}
