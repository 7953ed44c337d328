/**
 * Nested structures of tensors, which captured functions take and return. Their order when flattened
 * depends on the structure alone: lists by index, records by sorted name.
 */

import type * as tfjs from '@tensorflow/tfjs';

/** Declare records as type aliases: the compiler does not accept an interface as a record. */
export type TensorStructure =
  tfjs.Tensor | readonly TensorStructure[] | { readonly [name: string]: TensorStructure };

/** A tensor and its path in the structure: `support.labels`, `layers[0]`; empty at the top. */
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

/** Only plain objects count: a promise or a map would otherwise pass for an empty record. */
function isRecord(structure: unknown): structure is Record<string, unknown> {
  if (typeof structure !== 'object' || structure === null) return false;
  const prototype: unknown = Object.getPrototypeOf(structure);
  return prototype === Object.prototype || prototype === null;
}

/** @throws TypeError for a value that is no tensor, list or record. */
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
  // Lists and records keep their form, so the type is the same.
  return filledForm(plainForm(structure), tensors) as Structure;
}

/** Equal for structures that one graph can serve: same paths, shapes and element types. */
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

/** A structure without its tensors, as JSON: 0 stands for each tensor. */
export type PlainForm = 0 | PlainForm[] | { [name: string]: PlainForm };

export function plainForm(structure: TensorStructure): PlainForm {
  const plain = (part: unknown): PlainForm => {
    if (isTensor(part)) return 0;
    if (Array.isArray(part)) return part.map(plain);
    // Anything else has passed `leavesOf`, so it is a record.
    return Object.fromEntries(
      sortedEntries(part as object).map(([name, member]) => [name, plain(member)]),
    );
  };
  return plain(structure);
}

/** The structure of this form with these tensors, in the order of `leavesOf`. */
export function filledForm(form: PlainForm, tensors: readonly tfjs.Tensor[]): TensorStructure {
  let next = 0;
  const filled = (part: PlainForm): TensorStructure => {
    if (part === 0) {
      const tensor = tensors[next];
      if (tensor === undefined) throw new Error(`only ${tensors.length} tensors for a structure`);
      next += 1;
      return tensor;
    }
    if (Array.isArray(part)) return part.map(filled);
    return Object.fromEntries(
      Object.entries(part)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, member]) => [name, filled(member)]),
    );
  };
  return filled(form);
}
