/**
 * An embedding table in host memory and the rows that one batch touches: ids become places in a
 * small pack, the pack goes to the device, its change comes back.
 */

export interface RowTable {
  /** Gives each different id a place, in order of first use; keeps the ids for the calls below. */
  readonly place: (idLists: readonly Int32Array[]) => {
    readonly places: readonly Int32Array[];
    readonly uniqueCount: number;
  };
  /** The placed rows, followed by rows of no meaning up to `packRowCount`. */
  readonly gather: (packRowCount: number) => Float32Array;
  /** Takes the first rows of `change` off the placed rows. */
  readonly subtract: (change: Float32Array) => void;
}

export function createRowTable(values: Float32Array, rowCount: number, width: number): RowTable {
  if (values.length !== rowCount * width) throw new Error('a table of another size');
  // Place of each id plus the first place of its call: what is lower is of an earlier call.
  const stamps = new Int32Array(rowCount);
  let base = 1;
  let uniqueIds = new Int32Array(0);
  let uniqueCount = 0;
  let pack = new Float32Array(0);
  return {
    place: (idLists) => {
      const idCount = idLists.reduce((sum, ids) => sum + ids.length, 0);
      if (uniqueIds.length < idCount) uniqueIds = new Int32Array(idCount);
      if (base > 2 ** 31 - 1 - idCount) {
        stamps.fill(0);
        base = 1;
      } else base += uniqueCount;
      uniqueCount = 0;
      const places = idLists.map((ids) => {
        const own = new Int32Array(ids.length);
        for (let index = 0; index < ids.length; index += 1) {
          const id = ids[index] ?? 0;
          let stamp = stamps[id] ?? 0;
          if (stamp < base) {
            stamp = base + uniqueCount;
            stamps[id] = stamp;
            uniqueIds[uniqueCount] = id;
            uniqueCount += 1;
          }
          own[index] = stamp - base;
        }
        return own;
      });
      return { places, uniqueCount };
    },
    gather: (packRowCount) => {
      if (pack.length !== packRowCount * width) pack = new Float32Array(packRowCount * width);
      for (let place = 0; place < uniqueCount; place += 1) {
        const from = (uniqueIds[place] ?? 0) * width;
        const to = place * width;
        for (let column = 0; column < width; column += 1)
          pack[to + column] = values[from + column] ?? 0;
      }
      return pack;
    },
    subtract: (change) => {
      for (let place = 0; place < uniqueCount; place += 1) {
        const to = (uniqueIds[place] ?? 0) * width;
        const from = place * width;
        for (let column = 0; column < width; column += 1)
          values[to + column] = (values[to + column] ?? 0) - (change[from + column] ?? 0);
      }
    },
  };
}
