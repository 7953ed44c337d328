/**
 * A scoring graph as a SavedModel: tag `serve`, signature `serving_default` of the method that TensorFlow
 * Serving calls. Arrays are variables, since a graph of 2 GiB cannot be read; the graph restores them from
 * `variables/`.
 */

import { at } from '../../../shared/base/arrays.js';
import { graphNodesOf, nodeNameOf } from './tensorflow-nodes.js';
import { ProtoWriter } from '../../../shared/formats/protobuf.js';
import type { GraphArray, GraphValue, ScoringGraph } from './scoring-graph.js';
import {
  TENSORFLOW_TYPE,
  textsTensor,
  writeNode,
  writeShape,
  type TensorFlowNode,
} from './tensorflow-messages.js';

const SCHEMA_VERSION = 1;
/** The graph version of TensorFlow 2.9. */
const GRAPH_VERSION = 1087;
const SAVER_VERSION = 2;
const FILE_NODE = 'save/Const';
const RESTORE_NODE = 'save/restore_all';

/** `saved_model.pb` */
export function savedModelOf(graph: ScoringGraph): Uint8Array {
  const nodes = [...graphNodesOf(graph), ...restoringNodes(graph.arrays)];
  return new ProtoWriter()
    .int(1, SCHEMA_VERSION)
    .message(2, (meta) => {
      meta.message(1, (info) => info.text(4, 'serve'));
      meta.message(2, (message) => {
        for (const node of nodes) message.message(1, (each) => writeNode(each, node));
        message.message(4, (version) => version.int(1, GRAPH_VERSION));
      });
      meta.message(3, (saver) =>
        saver
          .text(1, `${FILE_NODE}:0`)
          .text(2, `${FILE_NODE}:0`)
          .text(3, RESTORE_NODE)
          .int(7, SAVER_VERSION),
      );
      meta.message(5, (entry) =>
        entry
          .text(1, 'serving_default')
          .message(2, (signature) => writeSignature(signature, graph)),
      );
    })
    .finish();
}

/** The loader feeds the path of the variables and runs the last node. */
function restoringNodes(arrays: readonly GraphArray[]): TensorFlowNode[] {
  const string = { type: TENSORFLOW_TYPE.string };
  const texts = (name: string, content: string | readonly string[]): TensorFlowNode => ({
    ...{ name, op: 'Const', inputs: [] },
    attributes: { dtype: string, value: { tensor: textsTensor(content) } },
  });
  const names = arrays.map((_, place) => nodeNameOf(arrays, place));
  const types = arrays.map(({ type }) => TENSORFLOW_TYPE[type]);
  return [
    texts('save/filename', 'model'),
    {
      ...{ name: FILE_NODE, op: 'PlaceholderWithDefault', inputs: ['save/filename'] },
      attributes: { dtype: string, shape: { shape: [] } },
    },
    texts('save/tensor_names', names),
    texts(
      'save/shape_and_slices',
      arrays.map(() => ''),
    ),
    {
      ...{ name: 'save/RestoreV2', op: 'RestoreV2' },
      inputs: [FILE_NODE, 'save/tensor_names', 'save/shape_and_slices'],
      attributes: { dtypes: { types } },
    },
    ...names.map((name, place) => ({
      ...{ name: `save/Assign_${place}`, op: 'AssignVariableOp' },
      inputs: [name, place === 0 ? 'save/RestoreV2' : `save/RestoreV2:${place}`],
      attributes: { dtype: { type: at(types, place) }, validate_shape: { flag: false } },
    })),
    {
      ...{ name: RESTORE_NODE, op: 'NoOp', attributes: {} },
      inputs: names.map((_, place) => `^save/Assign_${place}`),
    },
  ];
}

/** SignatureDef */
function writeSignature(signature: ProtoWriter, { inputs, outputs }: ScoringGraph): void {
  const write = (field: number, name: string, tensor: string, value: GraphValue): void => {
    signature.message(field, (entry) =>
      entry.text(1, name).message(2, (info) =>
        info
          .text(1, `${tensor}:0`)
          .int(2, TENSORFLOW_TYPE[value.type])
          .message(3, (shape) => writeShape(shape, value.shape)),
      ),
    );
  };
  for (const [place, input] of inputs.entries()) write(1, input.name, `input_${place}`, input);
  for (const { name, value } of outputs) write(2, name, `output_${name}`, value);
  signature.text(3, 'tensorflow/serving/predict');
}
