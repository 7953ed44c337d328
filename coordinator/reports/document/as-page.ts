/** Writes blocks of a document as HTML, and a whole document as one self-contained page. */

import { drawChart } from './charts.js';
import { columnsOn } from './as-text.js';
import {
  markedCell,
  piecesOf,
  type Block,
  type Cell,
  type Chart,
  type Document,
  type Figure,
  type Form,
  type Piece,
  type Table,
  type TableColumn,
  type Text,
} from './document.js';
import { PAGE_STYLE } from './page-style.js';

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** One file with its style inside, which references nothing external. */
export function asPage({ title = '', subtitle, blocks }: Document): string {
  const below = subtitle === undefined ? '' : `<p>${textHtml(subtitle)}</p>`;
  return htmlDocument(
    title,
    `<style>${PAGE_STYLE}</style>`,
    `<main>\n<header><h1>${escapeHtml(title)}</h1>${below}</header>\n${blocksHtml(blocks)}\n</main>`,
  );
}

export function htmlDocument(title: string, head: string, body: string): string {
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
    `<title>${escapeHtml(title)} · qianmo</title>\n${head}\n</head>\n<body>\n${body}\n</body>\n</html>\n`
  );
}

export function blocksHtml(blocks: readonly Block[], level = 2): string {
  return blocks.map((block) => blockHtml(block, level)).join('\n');
}

function blockHtml(block: Block, level: number): string {
  if ('on' in block && block.on === 'terminal') return '';
  switch (block.kind) {
    case 'facts':
      return factsHtml(block);
    case 'fields':
      return `<div class="card"><dl>${block.fields.map(([name, value]) => `<dt>${textHtml(name)}</dt><dd>${textHtml(value)}</dd>`).join('')}</dl></div>`;
    case 'table':
      return regionHtml('card scroll', block.label, tableHtml(block.table));
    case 'figure':
      return figureHtml(block);
    case 'figures':
      return `<div class="charts">${block.figures.map(figureHtml).join('')}</div>`;
    case 'text':
      return `<p class="${block.look ?? 'text'}">${textHtml(block.text)}</p>`;
    case 'list': {
      const list = `<ul>${block.items.map((item) => `<li>${textHtml(item)}</li>`).join('')}</ul>`;
      return block.label === undefined ? list : regionHtml('card scroll log', block.label, list);
    }
    case 'links':
      return `<nav class="choices" aria-label="${escapeHtml(block.label)}">${textHtml(block.links)}</nav>`;
    case 'progress': {
      const { label, done, total } = block;
      return `<progress max="${total}" value="${done}" aria-label="${escapeHtml(label)}">${done} of ${total}</progress>`;
    }
    case 'details':
      return `<details><summary>${escapeHtml(block.summary)}</summary>${blocksHtml(block.blocks, level)}</details>`;
    case 'form':
      return formHtml(block);
    case 'section': {
      const content = blocksHtml(block.blocks, level + 1);
      const note = textHtml(block.note);
      if (content === '') return '';
      const head = `<h${level}>${escapeHtml(block.title)}</h${level}>`;
      return `<section>${head}${note === '' ? '' : `<p class="note">${note}</p>`}${content}</section>`;
    }
  }
}

/** The text of one line; commands between backticks become code. */
function textHtml(text: Text): string {
  return piecesOf(text).map(pieceHtml).join('');
}

/** A table with more columns has smaller print. */
const PLAIN_COLUMNS_MAX = 9;

const TAGS = { code: 'code', small: 'small', strong: 'b', time: 'time' } as const;

function pieceHtml({ text, on, style, href, isCurrent, dot, badge }: Piece): string {
  if (on === 'terminal') return '';
  const mark = dot === undefined ? '' : `<span class="dot" style="background:${dot}"></span>`;
  const plain = escapeHtml(text);
  let html = style === 'code' ? plain : plain.replace(/`([^`]+)`/g, '<code>$1</code>');
  if (style === 'warning' || style === 'none') html = `<span class="${style}">${html}</span>`;
  else if (style !== undefined) html = `<${TAGS[style]}>${html}</${TAGS[style]}>`;
  if (badge !== undefined) html = `<span class="state ${badge}">${html}</span>`;
  if (href !== undefined)
    html = `<a ${isCurrent === true ? 'aria-current="true" ' : ''}href="${escapeHtml(href)}">${html}</a>`;
  return mark + html;
}

function factsHtml({ facts }: Extract<Block, { kind: 'facts' }>): string {
  const boxes = facts.map(
    ([value, name, small]) =>
      `<div><b>${escapeHtml(value)}</b><span>${escapeHtml(name)}</span>` +
      `${small === undefined ? '' : `<small>${escapeHtml(small)}</small>`}</div>`,
  );
  return boxes.length === 0 ? '' : `<div class="facts">${boxes.join('')}</div>`;
}

/** A region that scrolls by itself, and can be reached by keyboard. */
function regionHtml(className: string, label: string, content: string): string {
  return `<div class="${className}" role="region" aria-label="${escapeHtml(label)}" tabindex="0">${content}</div>`;
}

function tableHtml(table: Table): string {
  const { columns, rows } = columnsOn('page', table);
  const classOf = ({ align }: TableColumn): string =>
    align === undefined ? '' : ` class="${align === 'wrap' ? 'text wrap' : 'text'}"`;
  const heads = columns.map((column) => {
    const { title, unit = '' } = column;
    const below = unit === '' ? '' : `<small>${escapeHtml(unit)}</small>`;
    return `<th scope="col"${classOf(column)}>${escapeHtml(title)}${below}</th>`;
  });
  const body = rows.map((row) => {
    const cells = columns.map((column, index) =>
      cellHtml(row[index] ?? '', classOf(column), index),
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  const hasHeads = columns.some(({ title }) => title !== '');
  const head = hasHeads ? `<thead><tr>${heads.join('')}</tr></thead>` : '';
  const dense = columns.length > PLAIN_COLUMNS_MAX ? ' class="dense"' : '';
  return `<table${dense}>${head}<tbody>${body.join('')}</tbody></table>`;
}

function cellHtml(cell: Cell, columnClass: string, index: number): string {
  const isForm = typeof cell === 'object' && 'kind' in cell;
  const { cell: content, emphasis } = isForm ? { cell: '' } : markedCell(cell);
  const html = isForm ? formHtml(cell) : textHtml(content);
  if (index === 0) return `<th scope="row"${columnClass}>${html}</th>`;
  return `<td${emphasis === undefined ? columnClass : ` class="${emphasis}"`}>${html}</td>`;
}

function figureHtml({ title, summary = '', panels, table }: Figure): string {
  const drawn = panels.map(({ title: name, note = '', chart }) => {
    const label = name === undefined ? `${title}. ${summary}` : `${title}: ${name}`;
    const svg = drawChart(chart).replace(
      '<svg',
      `<svg role="img" aria-label="${escapeHtml(label)}"`,
    );
    if (name === undefined) return svg;
    return `<div><h3>${escapeHtml(name)} <span>${escapeHtml(note)}</span></h3>${svg}</div>`;
  });
  const [first] = panels;
  const isWide = first === undefined || first.chart.size !== 'half';
  const drawing =
    panels.length > 1 ? `<div class="multiples">${drawn.join('')}</div>` : drawn.join('');
  const values =
    table === undefined
      ? ''
      : `<details><summary>Table</summary>${regionHtml('scroll', `Values of the drawing: ${title}`, tableHtml(table))}</details>`;
  return (
    `<figure${isWide ? ' class="wide"' : ''}><figcaption>${escapeHtml(title)}` +
    `${summary === '' ? '' : `<span>${escapeHtml(summary)}</span>`}</figcaption>` +
    `${first === undefined ? '' : legendHtml(first.chart)}${regionHtml('drawing', `Drawing: ${title}`, drawing)}${values}</figure>`
  );
}

function legendHtml({ series }: Chart): string {
  const named = new Map(
    series
      .filter(({ look }) => look !== 'faint' && look !== 'guide')
      .map(({ name, color, look }) => [`${name}${look === 'dashed' ? ' (dashed)' : ''}`, color]),
  );
  if (named.size < 2) return '';
  const items = [...named].map(([text, dot]) => `<span>${pieceHtml({ text, dot })}</span>`);
  return `<div class="legend">${items.join('')}</div>`;
}

function formHtml({ action, method, hidden = {}, fields = [], buttons }: Form): string {
  const inputs = Object.entries(hidden).map(
    ([name, value]) => `<input type="hidden" name="${name}" value="${escapeHtml(value)}">`,
  );
  const labels = fields.map(({ label, name, value, options, isText = false }) => {
    const each = (options ?? []).map((option) =>
      typeof option === 'string' ? { value: option, text: option } : option,
    );
    const items = each.map((option) => {
      const isChosen = !isText && option.value === value;
      return `<option value="${escapeHtml(option.value)}"${isChosen ? ' selected' : ''}>${escapeHtml(option.text)}</option>`;
    });
    if (!isText)
      return `<label>${escapeHtml(label)}<select name="${name}">${items.join('')}</select></label>`;
    const list = items.length === 0 ? '' : ` list="${name}-options"`;
    const suggestions =
      items.length === 0 ? '' : `<datalist id="${name}-options">${items.join('')}</datalist>`;
    return `<label>${escapeHtml(label)}<input name="${name}"${list} value="${escapeHtml(value)}"></label>${suggestions}`;
  });
  const shown = buttons.map(({ text, name, value, label, isDanger = false }) => {
    const named = name === undefined ? '' : ` name="${name}" value="${escapeHtml(value ?? '')}"`;
    const aria = label === undefined ? '' : ` aria-label="${escapeHtml(label)}"`;
    return `<button${named}${isDanger ? ' class="danger"' : ''}${aria}>${escapeHtml(text)}</button>`;
  });
  const look = method === 'get' ? 'class="filter" role="search"' : 'class="orders"';
  return `<form ${look} method="${method}" action="${escapeHtml(action)}">${inputs.join('')}${labels.join('')}${shown.join('')}</form>`;
}
