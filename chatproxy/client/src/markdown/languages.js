/**
 * The languages that can be highlighted, by the names that stand behind a fence. Each is loaded when
 * code in it is shown.
 */

/**
 * @typedef {import("highlight.js").LanguageFn} Grammar
 * @typedef {() => Promise<{default: Grammar}>} Load
 */

/** @type {Record<string, Load>} */
const GRAMMARS = {
  bash: () => import("highlight.js/lib/languages/bash"),
  c: () => import("highlight.js/lib/languages/c"),
  clojure: () => import("highlight.js/lib/languages/clojure"),
  cmake: () => import("highlight.js/lib/languages/cmake"),
  cpp: () => import("highlight.js/lib/languages/cpp"),
  csharp: () => import("highlight.js/lib/languages/csharp"),
  css: () => import("highlight.js/lib/languages/css"),
  dart: () => import("highlight.js/lib/languages/dart"),
  diff: () => import("highlight.js/lib/languages/diff"),
  dockerfile: () => import("highlight.js/lib/languages/dockerfile"),
  dos: () => import("highlight.js/lib/languages/dos"),
  elixir: () => import("highlight.js/lib/languages/elixir"),
  erlang: () => import("highlight.js/lib/languages/erlang"),
  fortran: () => import("highlight.js/lib/languages/fortran"),
  fsharp: () => import("highlight.js/lib/languages/fsharp"),
  go: () => import("highlight.js/lib/languages/go"),
  gradle: () => import("highlight.js/lib/languages/gradle"),
  graphql: () => import("highlight.js/lib/languages/graphql"),
  groovy: () => import("highlight.js/lib/languages/groovy"),
  haskell: () => import("highlight.js/lib/languages/haskell"),
  http: () => import("highlight.js/lib/languages/http"),
  ini: () => import("highlight.js/lib/languages/ini"),
  java: () => import("highlight.js/lib/languages/java"),
  javascript: () => import("highlight.js/lib/languages/javascript"),
  json: () => import("highlight.js/lib/languages/json"),
  julia: () => import("highlight.js/lib/languages/julia"),
  kotlin: () => import("highlight.js/lib/languages/kotlin"),
  latex: () => import("highlight.js/lib/languages/latex"),
  less: () => import("highlight.js/lib/languages/less"),
  lisp: () => import("highlight.js/lib/languages/lisp"),
  lua: () => import("highlight.js/lib/languages/lua"),
  makefile: () => import("highlight.js/lib/languages/makefile"),
  markdown: () => import("highlight.js/lib/languages/markdown"),
  matlab: () => import("highlight.js/lib/languages/matlab"),
  nginx: () => import("highlight.js/lib/languages/nginx"),
  nix: () => import("highlight.js/lib/languages/nix"),
  objectivec: () => import("highlight.js/lib/languages/objectivec"),
  ocaml: () => import("highlight.js/lib/languages/ocaml"),
  perl: () => import("highlight.js/lib/languages/perl"),
  php: () => import("highlight.js/lib/languages/php"),
  powershell: () => import("highlight.js/lib/languages/powershell"),
  protobuf: () => import("highlight.js/lib/languages/protobuf"),
  python: () => import("highlight.js/lib/languages/python"),
  r: () => import("highlight.js/lib/languages/r"),
  ruby: () => import("highlight.js/lib/languages/ruby"),
  rust: () => import("highlight.js/lib/languages/rust"),
  scala: () => import("highlight.js/lib/languages/scala"),
  scheme: () => import("highlight.js/lib/languages/scheme"),
  scss: () => import("highlight.js/lib/languages/scss"),
  shell: () => import("highlight.js/lib/languages/shell"),
  sql: () => import("highlight.js/lib/languages/sql"),
  swift: () => import("highlight.js/lib/languages/swift"),
  typescript: () => import("highlight.js/lib/languages/typescript"),
  vbnet: () => import("highlight.js/lib/languages/vbnet"),
  verilog: () => import("highlight.js/lib/languages/verilog"),
  vim: () => import("highlight.js/lib/languages/vim"),
  wasm: () => import("highlight.js/lib/languages/wasm"),
  x86asm: () => import("highlight.js/lib/languages/x86asm"),
  xml: () => import("highlight.js/lib/languages/xml"),
  yaml: () => import("highlight.js/lib/languages/yaml"),
};

/** Other names of these languages. */
const ALIASES = {
  bash: "sh zsh",
  clojure: "clj",
  cpp: "c++ cc cxx h hpp",
  csharp: "c# cs",
  diff: "patch",
  dockerfile: "docker",
  dos: "bat batch cmd",
  elixir: "ex exs",
  erlang: "erl",
  fsharp: "f# fs",
  go: "golang",
  graphql: "gql",
  haskell: "hs",
  ini: "conf properties toml",
  javascript: "cjs js jsx mjs node",
  json: "json5 jsonc",
  julia: "jl",
  kotlin: "kt kts",
  latex: "tex",
  makefile: "make mk",
  markdown: "md mdx",
  matlab: "octave",
  objectivec: "objc objective-c",
  ocaml: "ml",
  perl: "pl",
  powershell: "ps1 pwsh",
  protobuf: "proto",
  python: "py python3",
  ruby: "rb",
  rust: "rs",
  shell: "console shellsession terminal",
  sql: "mysql pgsql postgresql sqlite",
  typescript: "cts mts ts tsx",
  vbnet: "vb",
  verilog: "systemverilog sv v",
  vim: "viml vimscript",
  wasm: "wat",
  x86asm: "asm assembly nasm",
  xml: "html htm svelte svg vue xhtml",
  yaml: "yml",
};

/** @type {Map<string, string>} */
const NAMES = new Map(Object.keys(GRAMMARS).map((name) => [name, name]));
for (const [name, aliases] of Object.entries(ALIASES)) {
  aliases.split(" ").forEach((alias) => NAMES.set(alias, name));
}

/** Languages within others. @type {Record<string, string[]>} */
const WITHIN = {
  markdown: ["xml"],
  php: ["xml"],
  shell: ["bash"],
  xml: ["css", "javascript"],
};

/**
 * @param {string} name as behind a fence
 * @returns {string | undefined} the name of its grammar, if there is one
 */
export function grammarNamed(name) {
  return NAMES.get(name.toLowerCase());
}

/**
 * @param {string} name of a grammar
 * @returns {Promise<[string, Grammar][]>} it, and those that it needs
 */
export function loadGrammars(name) {
  const names = [name, ...(WITHIN[name] ?? [])];
  return Promise.all(
    names.flatMap((each) => {
      const load = GRAMMARS[each];
      return load ? [load().then((module) => /** @type {[string, Grammar]} */ ([each, module.default]))] : [];
    }),
  );
}
