/**
 * A row server: the rows of all tables that one server holds, with their optimizer state. Calls take effect
 * in the order in which they are made. Ids are local (see `row-division.ts`). Answers may come from another
 * process.
 */

import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { RowGradient } from '../training/meta-optimizer/meta-gradient.js';
import type { CheckpointManifest, StoredTable } from '../checkpoints/checkpoint-manifest.js';
import type {
  PieceAnswer,
  PieceDemand,
  PiecePlace,
  TableRole,
} from '../checkpoints/table-snapshot.js';

/** Everything that a server needs to know about the run. */
export interface RowServerPlan {
  readonly frame: Pick<ModelSpec, 'tables' | 'tableRowWidth' | 'hasLinear'>;
  readonly training: TrainingConfig;
  readonly server: number;
  readonly serverCount: number;
  readonly pieceByteCountMax?: number | undefined;
}

export type TablesOfCheckpoint = Pick<CheckpointManifest, 'outerStep' | TableRole>;

/** The tables of another run's checkpoint. */
export interface StartTables {
  /** The address of that run's checkpoints. */
  readonly address: string;
  readonly tables: readonly StoredTable[];
}

export interface RowStep {
  /** The outer step that is made. */
  readonly outerStep: number;
  /** Those of the optimizer before its stages for rows. */
  readonly scalars: Readonly<Record<string, number>>;
  /** By feature, after the stages that need the whole gradient. The server may write to them. */
  readonly rows: ReadonlyMap<string, RowGradient>;
}

export interface RowServer {
  /**
   * Takes the rows of the tables that `from` has, and draws initial values of the others from the seed of the run.
   *
   * @throws QianmoError `data` if a piece is missing or damaged.
   */
  fresh(seed: number, from?: StartTables): Promise<void>;
  /** @throws QianmoError `data` if a piece is missing or damaged. */
  load(checkpoint: TablesOfCheckpoint): Promise<void>;
  /** @param ids by table, in the order of the spec. @returns their rows, end to end. */
  gather(ids: readonly Int32Array[]): Promise<Float32Array>;
  step(step: RowStep): Promise<void>;
  /** Begins a snapshot of the rows as they are. */
  freeze(): Promise<void>;
  /** Stores a piece of the snapshot. */
  storePiece(place: PiecePlace, demand: Omit<PieceDemand, 'put'>): Promise<PieceAnswer>;
  close(): Promise<void>;
}
