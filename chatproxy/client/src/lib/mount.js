/**
 * Where the page is: the folder of its address. It is `/`, or what an application is mounted at,
 * beside other applications of the same origin, each of which may have such a page. So all that the
 * page asks for is below its own mount, and what it keeps in the browser is named by it.
 */

/** @param {string | undefined} address of the page; undefined outside of a browser */
export function mountOf(address) {
  return address === undefined ? "/" : new URL(".", address).pathname;
}

export const MOUNT = mountOf(globalThis.document?.baseURI);

/**
 * The address of something of this page's application.
 * @param {string} path without a slash before it
 */
export function addressAt(path) {
  return MOUNT + path;
}

/** Where the routes of this page's application begin. */
export const API = addressAt("api/chat");
