import { use } from "react";

import { useLanguage } from "../i18n/current.js";
import { Blocks } from "./Blocks.jsx";
import { References } from "./references.js";

/**
 * The reference to a footnote: a link to it. Before there is such a footnote, only its mark.
 * @param {{label: string, number: number | undefined}} props
 */
export function FootnoteMark({ label, number }) {
  const { say } = useLanguage();
  const { scope } = use(References);
  if (number === undefined) {
    return <sup>{label}</sup>;
  }
  const id = idOf(scope, number);
  return (
    <sup>
      <a
        href={`#${id}`}
        role="doc-noteref"
        aria-label={say("footnote", { number })}
        onClick={(event) => {
          // Where the page is, its address tells.
          event.preventDefault();
          document.getElementById(id)?.focus();
        }}
      >
        {number}
      </a>
    </sup>
  );
}

/**
 * The footnotes of a text, after it. One that nothing refers to is shown too.
 * @param {{footnotes: import("./parse-blocks.js").Footnote[], growing: boolean}} props
 */
export function Footnotes({ footnotes, growing }) {
  const { say } = useLanguage();
  const { scope } = use(References);
  return (
    <section className="footnotes" aria-label={say("footnotes")}>
      <ol>
        {footnotes.map(({ label, blocks }, index) => (
          <li key={label} id={idOf(scope, index + 1)} tabIndex={-1} dir="auto">
            <Blocks blocks={blocks} growing={growing && index === footnotes.length - 1} />
            <button
              type="button"
              className="text-button"
              aria-label={say("backToText")}
              title={say("backToText")}
              onClick={() => focusMark(idOf(scope, index + 1))}
            >
              ↩
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** @param {string} id of a footnote */
function focusMark(id) {
  /** @type {HTMLElement | null} */
  const mark = document.querySelector(`a[href="#${id}"]`);
  mark?.focus();
}

/**
 * @param {string} scope
 * @param {number} number
 */
function idOf(scope, number) {
  return `${scope}-footnote-${number}`;
}
