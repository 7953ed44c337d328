/**
 * The row order of the authors' training file, as far as their one-shot files reveal it. Rows are
 * sorted by user, and inside a user films are in nearly one global order. The one-shot files name
 * the row numbers of 80 rows of each film, and no label is used.
 */

import { median } from '../../../shared/base/arrays.js';
import type { RatingRows } from './movielens-files.js';

/** A row whose number in the training file is known. */
interface KnownRow {
  readonly rowIndex: number;
  readonly filmId: number;
  readonly userId: number;
}

interface OrderEvidence {
  /** Users with at least this many rows place films more precisely than others. */
  readonly largeUserRowsMin: number;
  /** If at least this many rows of large users are known, only those are counted. */
  readonly knownRowsMin: number;
}

const EVIDENCE: OrderEvidence = { largeUserRowsMin: 300, knownRowsMin: 10 };

/**
 * The rows, which are sorted by user, as indices in the recovered order: known rows at their
 * number, and every other free position of a user filled in order of the films' median relative
 * position.
 */
export function recoveredOrder(
  { userIds, filmIds }: Pick<RatingRows, 'userIds' | 'filmIds'>,
  known: readonly KnownRow[],
  evidence = EVIDENCE,
): Int32Array {
  const spans = spansOf(userIds);
  const medians = filmPositions(spans, known, evidence);
  const positionOf = (row: number): number => medians.get(filmIds[row] ?? -1) ?? 0.5;
  const knownByUser = new Map<number, KnownRow[]>();
  for (const row of known) {
    const rows = knownByUser.get(row.userId);
    if (rows === undefined) knownByUser.set(row.userId, [row]);
    else rows.push(row);
  }
  const order = new Int32Array(userIds.length).fill(-1);
  for (const [userId, { start, end }] of spans) {
    const rowOfFilm = new Map<number, number>();
    for (let row = start; row < end; row += 1) rowOfFilm.set(filmIds[row] ?? -1, row);
    const placed = new Set<number>();
    for (const { rowIndex, filmId } of knownByUser.get(userId) ?? []) {
      const row = rowOfFilm.get(filmId);
      if (row === undefined || rowIndex < start || rowIndex >= end)
        throw new Error(`row ${rowIndex} of film ${filmId} does not belong to user ${userId}`);
      order[rowIndex] = row;
      placed.add(row);
    }
    const others = Array.from({ length: end - start }, (_, offset) => start + offset)
      .filter((row) => !placed.has(row))
      .sort(
        (a, b) => positionOf(a) - positionOf(b) || (filmIds[a] ?? 0) - (filmIds[b] ?? 0) || a - b,
      );
    let next = start;
    for (const row of others) {
      while (order[next] !== -1) next += 1;
      order[next] = row;
    }
  }
  return order;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

function spansOf(userIds: Int32Array): Map<number, Span> {
  const spans = new Map<number, Span>();
  for (let start = 0; start < userIds.length;) {
    const userId = userIds[start] ?? -1;
    let end = start;
    while (end < userIds.length && userIds[end] === userId) end += 1;
    spans.set(userId, { start, end });
    start = end;
  }
  return spans;
}

/** Median position of each film's known rows within their users, between 0 and 1. */
function filmPositions(
  spans: ReadonlyMap<number, Span>,
  known: readonly KnownRow[],
  { largeUserRowsMin, knownRowsMin }: OrderEvidence,
): Map<number, number> {
  const positions = new Map<number, { all: number[]; large: number[] }>();
  for (const { rowIndex, filmId, userId } of known) {
    const span = spans.get(userId);
    if (span === undefined) throw new Error(`user ${userId} has no rows`);
    const rowCount = span.end - span.start;
    const ofFilm = positions.get(filmId) ?? { all: [], large: [] };
    positions.set(filmId, ofFilm);
    const position = (rowIndex - span.start + 0.5) / rowCount;
    ofFilm.all.push(position);
    if (rowCount >= largeUserRowsMin) ofFilm.large.push(position);
  }
  return new Map(
    [...positions].map(([filmId, { all, large }]) => [
      filmId,
      median(large.length >= knownRowsMin ? large : all),
    ]),
  );
}
