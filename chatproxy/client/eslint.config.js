import js from "@eslint/js";
import jsxA11y from "eslint-plugin-jsx-a11y-x";
import reactHooks from "eslint-plugin-react-hooks";
import { defineConfig } from "eslint/config";
import globals from "globals";

/** The attributes whose text a person reads or hears. */
const SPOKEN =
  "/^(aria-(label|description|placeholder|roledescription|valuetext)|alt|label|placeholder|title)$/";
const CHILD = ":matches(JSXElement, JSXFragment) > JSXExpressionContainer";
const CHOSEN = ":matches(LogicalExpression, ConditionalExpression)";

/** Every word that a person reads is in `src/i18n/`; `test/languages.test.js` shows what is found. */
const LITERAL_TEXT = [
  "JSXText[value=/\\p{L}/u]",
  `${CHILD} > Literal[value=/\\p{L}/u]`,
  `${CHILD} > ${CHOSEN} > Literal[value=/\\p{L}/u]`,
  `${CHILD} > TemplateLiteral > TemplateElement[value.raw=/\\p{L}/u]`,
  `JSXAttribute[name.name=${SPOKEN}] > Literal[value=/\\p{L}/u]`,
  `JSXAttribute[name.name=${SPOKEN}] > * > Literal[value=/\\p{L}/u]`,
  `JSXAttribute[name.name=${SPOKEN}] > * > ${CHOSEN} > Literal[value=/\\p{L}/u]`,
  `JSXAttribute[name.name=${SPOKEN}] > * > TemplateLiteral > TemplateElement[value.raw=/\\p{L}/u]`,
  // Elsewhere: what begins and goes on like a sentence, or ends like one.
  "Literal[value=/^\\p{Lu}[^.:]*( \\p{L}|[.…?!]$)/u]",
  "TemplateElement[value.raw=/\\p{Lu}\\p{Ll}+(: | \\p{Ll}|… )/u]",
].map((selector) => ({ selector, message: "Words that people read belong into src/i18n/." }));

/**
 * The folders of a folder, and which of the others each may import, beside what is above all of them;
 * `src/state/` nothing of `src/sync/`, which imports it. Types may come from anywhere.
 * @type {Record<string, Record<string, string[]>>}
 */
const FOLDERS = {
  "src/state": {
    chats: [],
    hooks: [],
    kept: ["chats", "hooks"],
    writing: ["chats", "hooks", "kept"],
    view: ["chats", "hooks"],
    asking: ["chats", "hooks", "kept", "view"],
  },
  "src/components": {
    parts: [],
    messages: ["parts"],
    list: ["parts"],
    composer: ["parts"],
    dialogs: ["parts"],
    bars: ["parts"],
  },
};

/** What is known of chats is pure. */
const NO_REACT = { name: "react", message: "src/state/chats/ knows no React." };

/** The server's copies are kept beside the state of the page, which goes on without them. */
const NO_SYNC = { regex: "^\\.\\./\\.\\./sync/", message: "src/state/ knows nothing of src/sync/." };

const folderRules = Object.entries(FOLDERS).flatMap(([outer, folders]) =>
  Object.entries(folders).map(([folder, others]) => ({
    files: [`${outer}/${folder}/**`],
    rules: {
      /** @type {import("eslint").Linter.RuleEntry} */
      "no-restricted-imports": [
        "error",
        {
          paths: folder === "chats" ? [NO_REACT] : [],
          patterns: [
            {
              regex: `^\\.\\./(?!(?:\\.\\.|${others.join("|") || "none"})/)`,
              message: `${outer}/${folder}/ may import ${others.join(", ") || "no other folder"}.`,
            },
            ...(outer === "src/state" ? [NO_SYNC] : []),
          ],
        },
      ],
    },
  })),
);

export default defineConfig([
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  {
    files: ["src/**/*.{js,jsx}"],
    languageOptions: {
      globals: globals.browser,
      parserOptions: { ecmaFeatures: { jsx: true } },
    },
  },
  { files: ["test/**", "*.js"], languageOptions: { globals: globals.node } },
  {
    files: ["src/**/*.jsx"],
    extends: [reactHooks.configs.flat["recommended-latest"], jsxA11y.configs.strict],
    rules: {
      // What scrolls sideways must be reachable with the keyboard.
      "jsx-a11y-x/no-noninteractive-tabindex": ["error", { tags: [], roles: ["group", "region"] }],
    },
  },
  {
    rules: {
      curly: "error",
      eqeqeq: "error",
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
      // What is taken out of an object so that the rest is without it.
      "no-unused-vars": ["error", { ignoreRestSiblings: true }],
      complexity: ["error", 12],
    },
  },
  {
    files: ["src/**"],
    rules: {
      "max-lines-per-function": ["error", { max: 90, skipBlankLines: true, skipComments: true }],
      "no-restricted-syntax": ["error", ...LITERAL_TEXT],
    },
  },
  ...folderRules,
  { files: ["src/i18n/**"], rules: { "no-restricted-syntax": "off" } },
]);
