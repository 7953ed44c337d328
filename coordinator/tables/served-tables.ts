/**
 * The tables of a run on row servers. The coordinator clips the gradient, steps the dense variables, and
 * sends each server the gradient of its rows. The state in the coordinator has no tables.
 */

import { at } from '../../shared/base/arrays.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import { initialDense } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import { encodableTensor } from '../../shared/tensors/tensor-codec.js';
import type { TableLoader } from '../checkpoints/checkpoint-tensors.js';
import { pieceRowCountOf, pieceSpansOf } from '../checkpoints/table-pieces.js';
import type { SnapshotTable, TableSnapshot } from '../checkpoints/table-snapshot.js';
import type { TrainingState } from '../checkpoints/training-state.js';
import type { PackOf } from '../plan/orders/step-orders.js';
import type { MetaGradient, RowGradient } from '../training/meta-optimizer/meta-gradient.js';
import {
  gradientStagesOf,
  rowStagesOf,
  steppedState,
} from '../training/meta-optimizer/meta-optimizer.js';
import { RowDivision } from './row-division.js';
import type { RowServer, RowServerPlan, StartTables, TablesOfCheckpoint } from './row-server.js';
import type { RunTables } from './run-tables.js';

/** Pieces that each server may store at once: one is hashed while another is written. */
const PIECES_AT_ONCE = 2;

type ServedRun = Pick<RowServerPlan, 'training' | 'pieceByteCountMax'> & {
  readonly spec: ModelSpec;
};

export class ServedTables implements RunTables, TableLoader {
  readonly of = {};
  readonly #servers: readonly RowServer[];
  readonly #spec: ModelSpec;
  readonly #division: RowDivision;
  readonly #gradientStages: ReturnType<typeof gradientStagesOf>;
  readonly #rowStages: ReturnType<typeof rowStagesOf>;
  readonly #snapshotTables: Pick<TableSnapshot, 'tables' | 'optimizerTables'>;
  /** After a failure, servers may be at different outer steps. */
  #failure: { readonly error: unknown } | null = null;

  /** @param servers started with the plans of this run, in order. */
  constructor(servers: readonly RowServer[], { spec, training, pieceByteCountMax }: ServedRun) {
    this.#servers = servers;
    this.#spec = spec;
    const pieceRowCount = pieceRowCountOf(spec.tableRowWidth, pieceByteCountMax);
    this.#division = new RowDivision(servers.length, pieceRowCount);
    this.#gradientStages = gradientStagesOf(training, spec.variables);
    this.#rowStages = rowStagesOf(training, spec.variables);
    this.#snapshotTables = snapshotTablesOf(spec, training, pieceRowCount);
  }

  /**
   * The state before the first outer step.
   *
   * @param from holds the rows of some tables.
   */
  async fresh(seed: number, from?: StartTables): Promise<TrainingState> {
    await this.#together((server) => server.fresh(seed, from));
    const metaParameters = { dense: initialDense(this.#spec, seed), tables: new Map() };
    const ofRows = this.#rowStages.init(metaParameters);
    const ofGradient = this.#gradientStages.init(metaParameters);
    return {
      ...{ outerStep: 0, metaParameters, computedOn: [] },
      optimizer: { ...ofRows, scalars: { ...ofGradient.scalars, ...ofRows.scalars } },
    };
  }

  async load(checkpoint: TablesOfCheckpoint): Promise<void> {
    const { outerStep, tables, optimizerTables } = checkpoint;
    await this.#together((server) => server.load({ outerStep, tables, optimizerTables }));
    this.#failure = null;
  }

  async gather(layouts: readonly RowPackLayout[]): Promise<PackOf> {
    this.#demandSound();
    const { tables, tableRowWidth: width } = this.#spec;
    const idsByServer = this.#servers.map(() => tables.map((): number[] => []));
    this.#eachRow(layouts, (server, tableIndex, id) =>
      at(at(idsByServer, server), tableIndex).push(this.#division.localIdOf(id)),
    );
    const rowsByServer = await this.#together((server, index) =>
      server.gather(at(idsByServer, index).map((ids) => Int32Array.from(ids))),
    );
    const packs = layouts.map(({ rowCount }) => encodableTensor('rows', [rowCount, width]));
    const nextByServer = this.#servers.map(() => 0);
    this.#eachRow(layouts, (server, _tableIndex, _id, { jobIndex, row }) => {
      const start = at(nextByServer, server) * width;
      nextByServer[server] = at(nextByServer, server) + 1;
      const values = at(rowsByServer, server).subarray(start, start + width);
      at(packs, jobIndex).values.set(values, row * width);
    });
    return (jobIndex) => at(packs, jobIndex).bytes;
  }

  async step(state: TrainingState, gradient: MetaGradient): Promise<TrainingState> {
    this.#demandSound();
    const { optimizer, metaParameters } = state;
    const [{ dense, rows }, clipped] = this.#gradientStages.update(
      gradient,
      optimizer,
      metaParameters,
    );
    const outerStep = state.outerStep + 1;
    const { scalars } = clipped;
    const byServer = this.#rowsByServer(rows);
    await this.#together((server, index) =>
      server.step({ outerStep, scalars, rows: at(byServer, index) }),
    );
    return steppedState(
      this.#rowStages,
      { ...state, optimizer: clipped },
      { dense, rows: new Map() },
    );
  }

  snapshot(): TableSnapshot {
    // Calls take effect in order, so the next step does not wait for this.
    const frozen = this.#together((server) => server.freeze());
    frozen.catch(() => undefined);
    const { serverCount } = this.#division;
    return {
      ...this.#snapshotTables,
      of: this.of,
      concurrency: serverCount * PIECES_AT_ONCE,
      storePiece: async ({ role, tableIndex, piece }, { storedAt, wantsValues }) => {
        await frozen;
        this.#demandSound();
        const place = { role, tableIndex, piece: Math.floor(piece / serverCount) };
        const server = at(this.#servers, piece % serverCount);
        return server.storePiece(place, { storedAt, wantsValues });
      },
    };
  }

  /** Visits the rows of all layouts by table, job and place, each with the server that holds it. */
  #eachRow(
    layouts: readonly RowPackLayout[],
    visit: (
      server: number,
      tableIndex: number,
      id: number,
      place: { readonly jobIndex: number; readonly row: number },
    ) => void,
  ): void {
    for (const tableIndex of this.#spec.tables.keys())
      for (const [jobIndex, { idsByTable, startByTable }] of layouts.entries()) {
        let row = startByTable[tableIndex] ?? 0;
        for (const id of idsByTable[tableIndex] ?? []) {
          visit(this.#division.serverOf(id), tableIndex, id, { jobIndex, row });
          row += 1;
        }
      }
  }

  /** Every feature goes to every server, since rows may move that no task has touched. */
  #rowsByServer(rows: MetaGradient['rows']): Map<string, RowGradient>[] {
    const width = this.#spec.tableRowWidth;
    const byServer = this.#servers.map(() => new Map<string, RowGradient>());
    for (const [name, { ids, values }] of rows) {
      const counts = new Int32Array(byServer.length);
      for (const id of ids) {
        const server = this.#division.serverOf(id);
        counts[server] = at(counts, server) + 1;
      }
      const parts = [...counts].map((count) => ({
        ids: new Int32Array(count),
        values: new Float32Array(count * width),
      }));
      const next = new Int32Array(byServer.length);
      for (let place = 0; place < ids.length; place += 1) {
        const id = at(ids, place);
        const server = this.#division.serverOf(id);
        const part = at(parts, server);
        const row = at(next, server);
        part.ids[row] = this.#division.localIdOf(id);
        part.values.set(values.subarray(place * width, (place + 1) * width), row * width);
        next[server] = row + 1;
      }
      for (const [server, part] of parts.entries()) at(byServer, server).set(name, part);
    }
    return byServer;
  }

  #demandSound(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  /** Asks all servers at once. */
  async #together<Answer>(
    ask: (server: RowServer, index: number) => Promise<Answer>,
  ): Promise<Answer[]> {
    const asked = this.#servers.map(ask);
    const settled = await Promise.allSettled(asked);
    const failed = settled.find((each) => each.status === 'rejected');
    if (failed === undefined) return Promise.all(asked);
    this.#failure = { error: failed.reason };
    throw failed.reason;
  }
}

/** The whole tables, as a manifest lists them. */
function snapshotTablesOf(
  { tables, tableRowWidth: width }: ModelSpec,
  training: TrainingConfig,
  pieceRowCount: number,
): Pick<TableSnapshot, 'tables' | 'optimizerTables'> {
  const shapeOf = (name: string, rowCount: number): SnapshotTable => ({
    ...{ name, rowCount, width },
    spans: pieceSpansOf(rowCount, pieceRowCount),
  });
  const byName = new Map(tables.map(({ name, rowCount }) => [name, rowCount]));
  const noRows = new Map(
    tables.map(({ name }) => [name, { rowCount: 0, width, values: new Float32Array(0) }]),
  );
  const slots = rowStagesOf(training, []).init({ dense: new Map(), tables: noRows }).tables;
  return {
    tables: tables.map(({ name, rowCount }) => shapeOf(name, rowCount)),
    optimizerTables: [...slots.keys()].map((slot) =>
      shapeOf(slot, byName.get(slot.slice(slot.indexOf('/') + 1)) ?? 0),
    ),
  };
}
