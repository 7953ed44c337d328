/**
 * The personal block that stands in for the embedding of one category feature: where tasks adapt,
 * each has a row of its own instead of the table's. Of the width of a table row.
 */

export const GENERATED_BLOCK = 'generated';
