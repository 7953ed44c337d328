/**
 * The division of table rows among row servers. Pieces go round the servers, so that the owner of a row
 * follows from its id, and a piece has one owner whatever the number of servers. A server keeps its pieces end
 * to end: local ids number the rows that it holds, in the order of ids.
 */

import type { PieceSpan } from '../checkpoints/table-pieces.js';

export class RowDivision {
  readonly serverCount: number;
  readonly #pieceRowCount: number;

  constructor(serverCount: number, pieceRowCount: number) {
    this.serverCount = serverCount;
    this.#pieceRowCount = pieceRowCount;
  }

  serverOf(id: number): number {
    return Math.floor(id / this.#pieceRowCount) % this.serverCount;
  }

  localIdOf(id: number): number {
    const piece = Math.floor(id / this.#pieceRowCount);
    return (
      Math.floor(piece / this.serverCount) * this.#pieceRowCount +
      (id - piece * this.#pieceRowCount)
    );
  }

  /** The rows of a table that a server holds, in order of ids. */
  spansOf(server: number, rowCount: number): PieceSpan[] {
    const spans: PieceSpan[] = [];
    const stride = this.serverCount * this.#pieceRowCount;
    for (let row = server * this.#pieceRowCount; row < rowCount; row += stride)
      spans.push({ firstRow: row, rowCount: Math.min(this.#pieceRowCount, rowCount - row) });
    return spans;
  }
}
