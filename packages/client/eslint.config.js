import js from "@eslint/js";
import { defineConfig } from "eslint/config";
import ts from "typescript-eslint";

export default defineConfig([
  { ignores: ["build/", "dist/"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  ts.configs.recommended,
  {
    rules: {
      curly: "error",
      eqeqeq: "error",
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-undef": "off", // the compiler's work
      "object-shorthand": "error",
      "prefer-template": "error",
      "@typescript-eslint/no-unused-vars": ["error", { ignoreRestSiblings: true }],
    },
  },
  {
    files: ["src/**"],
    rules: {
      complexity: ["error", 12],
      "max-lines": ["error", { max: 300 }],
      "max-lines-per-function": ["error", { max: 90, skipBlankLines: true, skipComments: true }],
    },
  },
  { files: ["test/**"], rules: { "@typescript-eslint/no-explicit-any": "off" } },
]);
