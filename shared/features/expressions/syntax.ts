/** The syntax tree of an expression of the subset, and the failure of one outside it. */

export type SyntaxNode =
  | { readonly kind: 'column'; readonly name: string }
  /** Digits alone, with a point, and with an exponent: a whole number, a DECIMAL, a DOUBLE. */
  | { readonly kind: 'whole' | 'decimal' | 'double'; readonly digits: string }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'truth'; readonly value: boolean }
  | { readonly kind: 'null' }
  | { readonly kind: 'unary'; readonly operator: '-' | '+' | 'NOT'; readonly operand: SyntaxNode }
  | {
      readonly kind: 'binary';
      readonly operator: BinaryOperator;
      readonly left: SyntaxNode;
      readonly right: SyntaxNode;
    }
  | { readonly kind: 'isNull'; readonly operand: SyntaxNode; readonly isNegated: boolean }
  | {
      readonly kind: 'between' | 'in' | 'like';
      readonly operand: SyntaxNode;
      /** The two bounds, the list, or the pattern. */
      readonly items: readonly SyntaxNode[];
      readonly isNegated: boolean;
    }
  | {
      readonly kind: 'case';
      readonly branches: readonly CaseBranch[];
      readonly otherwise: SyntaxNode;
    }
  | {
      readonly kind: 'cast';
      readonly operand: SyntaxNode;
      readonly typeName: string;
      /** True if a value that cannot be cast becomes null. */
      readonly isTry: boolean;
    }
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly SyntaxNode[] };

export interface CaseBranch {
  readonly condition: SyntaxNode;
  readonly result: SyntaxNode;
}

export type ArithmeticOperator = '+' | '-' | '*' | '/' | '//' | '%';
export type ComparisonOperator = '=' | '<>' | '<' | '<=' | '>' | '>=';
export type BinaryOperator =
  | ArithmeticOperator
  | ComparisonOperator
  | 'AND'
  | 'OR'
  | '||'
  | 'IS DISTINCT FROM'
  | 'IS NOT DISTINCT FROM';

/** The expression is not one that is evaluated here; the message says why. */
export class OutsideSubset extends Error {}
