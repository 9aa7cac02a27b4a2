/**
 * Markdown's blocks as elements, made from the parser's tree, never from HTML.
 *
 * The direction of a block at the top is that of its first letter, and of all that is in it; a table's
 * cells have their own. Code and formulas run from left to right.
 */

import { useLanguage } from "../i18n/current.js";
import { CodeBlock } from "./CodeBlock.jsx";
import { Formula } from "./Formula.jsx";
import { Inline } from "./Inline.jsx";

/**
 * @typedef {import("./parse-blocks.js").Block} Block
 * @typedef {import("react").ReactNode} ReactNode
 *
 * @typedef {{dir: "auto" | undefined, growing: boolean}} Place
 *   `growing`: the block is the end of a text that grows
 */

/**
 * @template {Block["kind"]} Kind
 * @typedef {Extract<Block, {kind: Kind}>} BlockOf
 */

/** @param {{blocks: Block[], growing: boolean}} props */
export function Blocks({ blocks, growing }) {
  return blocks.map((block, index) => (
    <BlockElement
      key={index}
      block={block}
      place={{ dir: undefined, growing: growing && index === blocks.length - 1 }}
    />
  ));
}

/** @param {{block: Block, place: Place}} props */
export function BlockElement({ block, place }) {
  const draw = /** @type {(block: Block, place: Place) => ReactNode} */ (DRAWN[block.kind]);
  return draw(block, place);
}

/** @type {{[Kind in Block["kind"]]: (block: BlockOf<Kind>, place: Place) => ReactNode}} */
const DRAWN = {
  paragraph: (block, { dir, growing }) => (
    <p dir={dir}>
      <Inline text={block.text} growing={growing} />
    </p>
  ),
  heading,
  code: ({ text, language }, { growing }) => (
    <CodeBlock text={text} language={language} growing={growing} />
  ),
  formula: ({ tex, closed }) => (
    <Box className="formula-box" name="formula">
      <Formula tex={tex} display closed={closed} />
    </Box>
  ),
  list,
  quote: ({ blocks }, { dir, growing }) => (
    <blockquote dir={dir}>
      <Blocks blocks={blocks} growing={growing} />
    </blockquote>
  ),
  table,
  details: ({ summary, open, blocks }, { dir, growing }) => (
    <details className="fold" open={open} dir={dir}>
      <summary>{summary === "" ? <Say name="details" /> : <Inline text={summary} />}</summary>
      <Blocks blocks={blocks} growing={growing} />
    </details>
  ),
  rule: () => <hr />,
  raw: ({ text }, { dir }) => (
    <p className="as-text" dir={dir}>
      {text}
    </p>
  ),
  // After the text: see Footnotes.
  footnote: () => null,
};

/**
 * A message has a heading of the second level, so those of its text begin with the third.
 * @param {BlockOf<"heading">} block
 * @param {Place} place
 */
function heading({ level, text }, { dir, growing }) {
  const Tag = /** @type {"h3" | "h4" | "h5" | "h6"} */ (`h${Math.min(6, Math.max(3, level + 1))}`);
  return (
    <Tag data-depth={level} dir={dir}>
      <Inline text={text} growing={growing} />
    </Tag>
  );
}

/**
 * An item's text is a paragraph in any list, so that an empty line between two items changes nothing
 * above it.
 * @param {BlockOf<"list">} block
 * @param {Place} place
 */
function list({ start, items }, { dir, growing }) {
  const elements = items.map(({ done, blocks }, index) => (
    <li key={index} className={done === null ? undefined : "task"}>
      {done !== null && <Checkbox done={done} />}
      <Blocks blocks={blocks} growing={growing && index === items.length - 1} />
    </li>
  ));
  return start === null ? (
    <ul dir={dir}>{elements}</ul>
  ) : (
    <ol start={start === 1 ? undefined : start} dir={dir}>
      {elements}
    </ol>
  );
}

/**
 * What scrolls sideways, and is reachable with the keyboard.
 * @param {{className: string, name: "table" | "formula", children: ReactNode}} props
 */
function Box({ className, name, children }) {
  const { say } = useLanguage();
  return (
    <div className={className} role="group" aria-label={say(name)} tabIndex={0}>
      {children}
    </div>
  );
}

/** @param {{name: "details"}} props */
function Say({ name }) {
  return useLanguage().say(name);
}

/** @param {{done: boolean}} props */
function Checkbox({ done }) {
  const { say } = useLanguage();
  return (
    <span className="checkbox" role="img" aria-label={say(done ? "done" : "notDone")}>
      {done ? "☑" : "☐"}
    </span>
  );
}

/**
 * @param {BlockOf<"table">} block
 * @param {Place} place
 */
function table({ aligns, header, rows }, { growing }) {
  return (
    <Box className="table-box" name="table">
      <table>
        <thead>
          <tr>
            {header.map((cell, column) => (
              <th key={column} scope="col" dir="auto" data-align={aligns[column] || undefined}>
                <Inline text={cell} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>
              {row.map((cell, column) => (
                <td key={column} dir="auto" data-align={aligns[column] || undefined}>
                  <Inline text={cell} growing={growing && index === rows.length - 1} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Box>
  );
}
