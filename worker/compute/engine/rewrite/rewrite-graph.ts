/** Makes a recorded graph cheaper to run without changing what it computes. */

import { nodesInOrder, type Graph, type GraphNode, type GraphValue } from '../graph/graph.js';
import { GraphBuilder, type Rule } from '../graph/graph-builder.js';
import {
  exactReciprocal,
  foldedConstant,
  lateBroadcast,
  lateReshape,
  neutralElement,
  oneNameForAdd,
  outerSign,
  smallConstant,
  uniformArithmetic,
} from './elementwise.js';
import { oneBroadcast, oneReshape, sameValue, tileAsBroadcast } from './identities.js';
import { commonFactor } from './common-factors.js';
import { biasInGram, productWithBias, rowSumAsProduct } from './fusions.js';
import { cheaperChain, sharedFactor, singleProduct, transposedGram } from './products.js';
import {
  flatTaskSum,
  oneSum,
  plainSum,
  sumBeforeReshape,
  sumOfRepeats,
  sumOfTerms,
} from './sums.js';

/** Rules in the order in which they are tried: cheap and certain ones first. */
const RULES: Readonly<Record<string, Rule>> = {
  sameValue,
  oneReshape,
  tileAsBroadcast,
  oneBroadcast,
  oneNameForAdd,
  uniformArithmetic,
  foldedConstant,
  neutralElement,
  exactReciprocal,
  lateBroadcast,
  smallConstant,
  outerSign,
  lateReshape,
  plainSum,
  sumOfRepeats,
  oneSum,
  sumBeforeReshape,
  flatTaskSum,
  sumOfTerms,
  singleProduct,
  sharedFactor,
  transposedGram,
  cheaperChain,
  commonFactor,
  productWithBias,
};

/** Rules of the second pass, which know what reads each value of the first. */
const FINISHING_RULES: Readonly<Record<string, Rule>> = {
  oneReshape,
  neutralElement,
  productWithBias,
  biasInGram,
  rowSumAsProduct,
};

/** A graph with the same results, up to rounding, without the nodes that no result needs. */
export function rewriteGraph(graph: Graph): Graph {
  const simplified = applyRules(graph, Object.values(RULES));
  return applyRules(simplified, Object.values(FINISHING_RULES));
}

/** One pass over the graph, inputs before their readers. */
export function applyRules(graph: Graph, rules: readonly Rule[]): Graph {
  const builder = new GraphBuilder(rules);
  const rewritten = new Map<GraphNode, readonly GraphValue[]>();
  const valueOf = ({ node, output }: GraphValue): GraphValue => {
    const value = rewritten.get(node)?.[output];
    if (value === undefined) throw new Error(`${node.op} comes before its inputs`);
    return value;
  };
  for (const node of nodesInOrder(graph))
    rewritten.set(node, rewrittenNode(builder, node, node.inputs.map(valueOf)));
  return { inputs: graph.inputs, results: graph.results.map(valueOf) };
}

function rewrittenNode(
  builder: GraphBuilder,
  node: GraphNode,
  inputs: readonly GraphValue[],
): readonly GraphValue[] {
  const { op, attributes, outputs } = node;
  const [type] = outputs;
  if (type !== undefined && outputs.length === 1 && inputs.length > 0)
    return [builder.build({ op, inputs, attributes, type })];
  const kept = builder.keep(node, inputs);
  return outputs.map((_, output) => ({ node: kept, output }));
}
