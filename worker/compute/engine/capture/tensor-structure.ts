/**
 * Nested structures of tensors: what a captured function takes and returns. They are flattened in
 * an order fixed by the structure alone: lists by place, records by sorted name.
 */

import type * as tfjs from '@tensorflow/tfjs';

/** Write records as type aliases: an interface does not count as one to the compiler. */
export type TensorStructure =
  tfjs.Tensor | readonly TensorStructure[] | { readonly [name: string]: TensorStructure };

/** One tensor and its place in the structure: `support.labels`, `layers[0]`; empty at the top. */
interface TensorLeaf {
  readonly path: string;
  readonly tensor: tfjs.Tensor;
}

function isTensor(structure: unknown): structure is tfjs.Tensor {
  return (
    typeof structure === 'object' &&
    structure !== null &&
    'dataId' in structure &&
    'dtype' in structure
  );
}

/** A promise or a map would pass for an empty record, so that only plain ones count. */
function isRecord(structure: unknown): structure is Record<string, unknown> {
  if (typeof structure !== 'object' || structure === null) return false;
  const prototype: unknown = Object.getPrototypeOf(structure);
  return prototype === Object.prototype || prototype === null;
}

/** @throws TypeError where something that is no tensor, list or record stands. */
export function leavesOf(structure: TensorStructure): TensorLeaf[] {
  const leaves: TensorLeaf[] = [];
  visit(structure, '', (path, tensor) => leaves.push({ path, tensor }));
  return leaves;
}

function visit(
  structure: unknown,
  path: string,
  onLeaf: (path: string, tensor: tfjs.Tensor) => void,
): void {
  if (isTensor(structure)) {
    onLeaf(path, structure);
    return;
  }
  if (Array.isArray(structure)) {
    for (const [place, member] of structure.entries()) visit(member, `${path}[${place}]`, onLeaf);
    return;
  }
  if (!isRecord(structure)) {
    const where = path === '' ? 'the whole structure' : path;
    throw new TypeError(`${where} is no tensor, list or record of tensors`);
  }
  for (const [name, member] of sortedEntries(structure))
    visit(member, path === '' ? name : `${path}.${name}`, onLeaf);
}

/** By code units, which depend on no locale. */
function sortedEntries(record: object): [string, unknown][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The same structure with its tensors replaced, in the order of `leavesOf`. */
export function withLeaves<Structure extends TensorStructure>(
  structure: Structure,
  tensors: readonly tfjs.Tensor[],
): Structure {
  let next = 0;
  const rebuilt = (part: unknown): unknown => {
    if (isTensor(part)) {
      const tensor = tensors[next];
      if (tensor === undefined) throw new Error(`only ${tensors.length} tensors for a structure`);
      next += 1;
      return tensor;
    }
    if (Array.isArray(part)) return part.map(rebuilt);
    // What is neither has passed `leavesOf`, so it is a record.
    return Object.fromEntries(
      sortedEntries(part as object).map(([name, member]) => [name, rebuilt(member)]),
    );
  };
  // Lists stay lists and records keep their names, so the type is the same.
  return rebuilt(structure) as Structure;
}

/** Equal for structures that one capture can serve: same places, shapes and element types. */
export function signatureOf(structure: TensorStructure): string {
  const parts: string[] = [];
  const describe = (part: unknown): void => {
    if (isTensor(part)) parts.push(`${part.dtype}[${part.shape.join(',')}]`);
    else if (Array.isArray(part)) {
      parts.push('(');
      part.forEach(describe);
      parts.push(')');
    } else if (isRecord(part)) {
      parts.push('{');
      for (const [name, member] of sortedEntries(part)) {
        parts.push(JSON.stringify(name));
        describe(member);
      }
      parts.push('}');
    } else parts.push(typeof part);
  };
  describe(structure);
  return parts.join(' ');
}
