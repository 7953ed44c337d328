/** Makes a recorded graph cheaper to run without changing what it computes. */

import { nodesInOrder, type Graph, type GraphNode, type GraphValue } from '../graph.js';
import { GraphBuilder, type Rule } from './graph-builder.js';
import { ELEMENTWISE_RULES } from './elementwise.js';
import { FUSIONS } from './fusions.js';
import { PRODUCT_RULES } from './products.js';
import { SUM_RULES } from './sums.js';

const { oneReshape, neutralElement } = ELEMENTWISE_RULES;

/** Rules in the order in which they are tried: cheap and certain ones first. */
const RULES: Readonly<Record<string, Rule>> = {
  ...ELEMENTWISE_RULES,
  ...SUM_RULES,
  ...PRODUCT_RULES,
  productWithBias: FUSIONS.productWithBias,
};

/** Rules of the second pass, which know what reads each value of the first. */
const FINISHING_RULES: readonly Rule[] = [oneReshape, neutralElement, ...Object.values(FUSIONS)];

/** A graph with the same results, up to rounding, without the nodes that no result needs. */
export function rewriteGraph(graph: Graph): Graph {
  const simplified = applyRules(graph, Object.values(RULES));
  return applyRules(simplified, FINISHING_RULES);
}

/** One pass over the graph, inputs before their readers. */
function applyRules(graph: Graph, rules: readonly Rule[]): Graph {
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
