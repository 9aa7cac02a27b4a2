/**
 * What the page asks of the server with: the package `@chatproxy/client`, whose source is in
 * `packages/client/`. `createSessionId`, `streamChat`, `stopChat` and the rest come from there.
 */

export * from "@chatproxy/client";
