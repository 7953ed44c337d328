// Functions of Node's `util` that tfjs-node calls and that Node has deprecated or removed.
//
// tfjs-node 4.22 calls `util.isNullOrUndefined` (removed in Node 23) in its kernels and
// `util.isArray` (deprecated since Node 22) in its backend. Both are looked up in the exports of
// `util` at every call, so it is enough to put them there before the first kernel runs. Import this
// file in every process that loads tfjs-node. The functions are set on every version of Node: their
// meaning is that of Node's own, and a deprecated one would warn on stderr at its first use.
import util from 'node:util';

Object.assign(util, {
  /** @param {unknown} value */
  isNullOrUndefined: (value) => value === null || value === undefined,
  isArray: Array.isArray,
});
