/** A series of any length in bounded memory. The least and the greatest value of each span are kept, so that no spike is lost. */

import { SpanList } from './span-list.js';

export interface Point {
  readonly x: number;
  readonly y: number;
}

interface Span {
  readonly pointCount: number;
  readonly least: Point;
  readonly greatest: Point;
}

/** The first and the last point are kept as well. */
export const POINTS_MAX = 2_000;
const SPANS_MAX = (POINTS_MAX - 2) / 2;

export class PointSeries {
  readonly #list = new SpanList<Span>({
    spansMax: SPANS_MAX,
    itemCountOf: ({ pointCount }) => pointCount,
    united,
  });
  #first: Point | null = null;
  #last: Point | null = null;

  /** @param y a value that is not finite is left out, and so are points that are not behind the last one. */
  add(x: number, y: number): void {
    if (!Number.isFinite(y) || (this.#last !== null && x <= this.#last.x)) return;
    const point = { x, y };
    this.#first ??= point;
    this.#last = point;
    this.#list.add({ pointCount: 1, least: point, greatest: point });
  }

  /** Forgets the points behind `x`: a run that is resumed repeats the steps since its checkpoint. */
  forgetAfter(x: number): void {
    if (this.#last === null || this.#last.x <= x) return;
    this.#list.replaceEach((span) => spanUpTo(span, x));
    const kept = this.points().filter((point) => point.x <= x);
    this.#first = kept[0] ?? null;
    this.#last = kept.at(-1) ?? null;
  }

  /** At most `POINTS_MAX`, by ascending x. */
  points(): Point[] {
    const ordered = this.#list.spans.flatMap(({ least, greatest }) => {
      if (least === greatest) return [least];
      return least.x < greatest.x ? [least, greatest] : [greatest, least];
    });
    const { first, last } = { first: this.#first, last: this.#last };
    if (first !== null && ordered[0]?.x !== first.x) ordered.unshift(first);
    if (last !== null && ordered.at(-1)?.x !== last.x) ordered.push(last);
    return ordered;
  }
}

/** Of equal values, the earlier one is kept. */
function united(earlier: Span, later: Span): Span {
  return {
    pointCount: earlier.pointCount + later.pointCount,
    least: later.least.y < earlier.least.y ? later.least : earlier.least,
    greatest: later.greatest.y > earlier.greatest.y ? later.greatest : earlier.greatest,
  };
}

function spanUpTo({ pointCount, least, greatest }: Span, x: number): Span[] {
  const kept = [least, greatest].filter((point) => point.x <= x);
  const [one, other = one] = kept;
  return one === undefined || other === undefined
    ? []
    : [{ pointCount, least: one, greatest: other }];
}
