import { Component } from "react";

/**
 * @typedef {Pick<Selection, "anchorNode" | "anchorOffset" | "focusNode" | "focusOffset">} Ends
 */

/**
 * Keeps what a reader has selected while the text around it grows. React gives a growing piece of
 * text a new value, and a browser then forgets what was selected in it.
 *
 * It is a class because only a class hears of a change just before the document changes.
 * @extends {Component<{children: import("react").ReactNode}, {}, Ends | null>}
 */
export class SelectionKeeper extends Component {
  /** @override */
  getSnapshotBeforeUpdate() {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed ? endsOf(selection) : null;
  }

  /**
   * @override
   * @param {unknown} _props
   * @param {unknown} _state
   * @param {Ends | null} before
   */
  componentDidUpdate(_props, _state, before) {
    const selection = document.getSelection();
    if (before && selection && !isSame(before, endsOf(selection))) {
      select(selection, before);
    }
  }

  /** @override */
  render() {
    return this.props.children;
  }
}

/**
 * @param {Selection} selection
 * @returns {Ends}
 */
function endsOf({ anchorNode, anchorOffset, focusNode, focusOffset }) {
  return { anchorNode, anchorOffset, focusNode, focusOffset };
}

/**
 * @param {Ends} one
 * @param {Ends} other
 */
function isSame(one, other) {
  return (
    one.anchorNode === other.anchorNode &&
    one.anchorOffset === other.anchorOffset &&
    one.focusNode === other.focusNode &&
    one.focusOffset === other.focusOffset
  );
}

/**
 * What is not in the document any more can't be selected.
 * @param {Selection} selection
 * @param {Ends} ends
 */
function select(selection, { anchorNode, anchorOffset, focusNode, focusOffset }) {
  if (anchorNode?.isConnected && focusNode?.isConnected) {
    selection.setBaseAndExtent(
      anchorNode,
      Math.min(anchorOffset, lengthOf(anchorNode)),
      focusNode,
      Math.min(focusOffset, lengthOf(focusNode)),
    );
  }
}

/** @param {Node} node */
function lengthOf(node) {
  return node.nodeValue?.length ?? node.childNodes.length;
}
