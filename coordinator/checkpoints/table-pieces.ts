/** The division of a table into pieces: whole rows in order of ids, each piece stored as one blob. */

/** Small enough that a few touched rows do not write much, and that encoding does not hold up training. */
const PIECE_BYTE_COUNT_MAX = 8 * 1024 * 1024;

export interface PieceSpan {
  readonly firstRow: number;
  readonly rowCount: number;
}

/** The number of rows of every piece but the last, at least 1. */
export function pieceRowCountOf(width: number, pieceByteCountMax = PIECE_BYTE_COUNT_MAX): number {
  const rowByteCount = Math.max(1, width * Float32Array.BYTES_PER_ELEMENT);
  return Math.max(1, Math.floor(pieceByteCountMax / rowByteCount));
}

export function pieceSpansOf(rowCount: number, pieceRowCount: number): PieceSpan[] {
  return Array.from({ length: Math.ceil(rowCount / pieceRowCount) }, (_, piece) => {
    const firstRow = piece * pieceRowCount;
    return { firstRow, rowCount: Math.min(pieceRowCount, rowCount - firstRow) };
  });
}
