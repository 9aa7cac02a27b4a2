/**
 * Models by their names. A run of the application's is asked for as the model `run:<name>`.
 */

const RUN = "run:";

/** @param {string} name of a run */
export const asModel = (name) => RUN + name;

/** @param {string} model */
export const isRun = (model) => model.startsWith(RUN);

/**
 * What people read of it.
 * @param {string} model
 */
export const shownModel = (model) => (isRun(model) ? model.slice(RUN.length) : model);
