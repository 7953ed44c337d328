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

/** By code units, which depend on no locale. */
function sortedEntries<Member>(record: Readonly<Record<string, Member>>): [string, Member][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
}

type Form<Leaf> = Leaf | Form<Leaf>[] | { [name: string]: Form<Leaf> };

/**
 * The structure with a value in the place of each tensor.
 *
 * @throws TypeError for a value that is no tensor, list or record.
 */
function formOf<Leaf>(
  structure: unknown,
  leafOf: (tensor: tfjs.Tensor, path: string) => Leaf,
  path = '',
): Form<Leaf> {
  if (isTensor(structure)) return leafOf(structure, path);
  if (Array.isArray(structure))
    return structure.map((member, place) => formOf(member, leafOf, `${path}[${place}]`));
  if (!isRecord(structure))
    throw new TypeError(`${path || 'the whole structure'} is no tensor, list or record of tensors`);
  return Object.fromEntries(
    sortedEntries(structure).map(([name, member]) => [
      name,
      formOf(member, leafOf, path === '' ? name : `${path}.${name}`),
    ]),
  );
}

/** @throws TypeError for a value that is no tensor, list or record. */
export function leavesOf(structure: TensorStructure): TensorLeaf[] {
  const leaves: TensorLeaf[] = [];
  formOf(structure, (tensor, path) => leaves.push({ path, tensor }));
  return leaves;
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
  return JSON.stringify(formOf(structure, ({ dtype, shape }) => `${dtype}[${shape.join()}]`));
}

/** A structure without its tensors, as JSON: 0 stands for each tensor. */
export type PlainForm = Form<0>;

export function plainForm(structure: TensorStructure): PlainForm {
  return formOf(structure, () => 0);
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
    return Object.fromEntries(sortedEntries(part).map(([name, member]) => [name, filled(member)]));
  };
  return filled(form);
}
