/**
 * A series of any length in bounded memory. Points are gathered in spans of equally many; when there are too many
 * spans, two neighbours become one. The least and the greatest value of each span are kept, so that no spike is lost.
 */

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
  #spans: Span[] = [];
  #spanLength = 1;
  #first: Point | null = null;
  #last: Point | null = null;

  /** @param y a value that is not finite is left out, and so are points that are not behind the last one. */
  add(x: number, y: number): void {
    if (!Number.isFinite(y) || (this.#last !== null && x <= this.#last.x)) return;
    const point = { x, y };
    this.#first ??= point;
    this.#last = point;
    const newest = this.#spans.at(-1);
    const single = { pointCount: 1, least: point, greatest: point };
    if (newest !== undefined && newest.pointCount < this.#spanLength)
      this.#spans[this.#spans.length - 1] = united(newest, single);
    else this.#spans.push(single);
    if (this.#spans.length > SPANS_MAX) this.#halve();
  }

  /** Forgets the points behind `x`: a run that is resumed repeats the steps since its checkpoint. */
  forgetAfter(x: number): void {
    if (this.#last === null || this.#last.x <= x) return;
    this.#spans = this.#spans.flatMap((span) => spanUpTo(span, x));
    const kept = this.points().filter((point) => point.x <= x);
    this.#first = kept[0] ?? null;
    this.#last = kept.at(-1) ?? null;
  }

  /** At most `POINTS_MAX`, by ascending x. */
  points(): Point[] {
    const ordered = this.#spans.flatMap(({ least, greatest }) => {
      if (least === greatest) return [least];
      return least.x < greatest.x ? [least, greatest] : [greatest, least];
    });
    const { first, last } = { first: this.#first, last: this.#last };
    if (first !== null && ordered[0]?.x !== first.x) ordered.unshift(first);
    if (last !== null && ordered.at(-1)?.x !== last.x) ordered.push(last);
    return ordered;
  }

  #halve(): void {
    this.#spanLength *= 2;
    const halved: Span[] = [];
    for (const [index, span] of this.#spans.entries()) {
      const earlier = halved.at(-1);
      if (index % 2 === 1 && earlier !== undefined)
        halved[halved.length - 1] = united(earlier, span);
      else halved.push(span);
    }
    this.#spans = halved;
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
