/** @type {Record<string, import("react").ReactNode>} */
const SHAPES = {
  send: <path d="M10 16V4M5 9l5-5 5 5" />,
  stop: <rect x="5" y="5" width="10" height="10" rx="2" fill="currentColor" stroke="none" />,
  menu: <path d="M3 6h14M3 10h14M3 14h14" />,
  down: <path d="m6 8 4 4 4-4" />,
  plus: <path d="M10 4v12M4 10h12" />,
  left: <path d="m12 6-4 4 4 4" />,
  right: <path d="m8 6 4 4-4 4" />,
  more: <path d="M4.5 10h.01M10 10h.01M15.5 10h.01" strokeWidth="2.6" />,
  pin: <path d="M7 3.500h6M8 3.500v5L5.5 12h9L12 8.500v-5M10 12v5" />,
  close: <path d="m5 5 10 10M15 5 5 15" />,
  copy: (
    <>
      <rect x="7" y="7" width="9" height="9" rx="2" />
      <path d="M13 7V5.500A1.5 1.5 0 0 0 11.5 4h-6A1.5 1.5 0 0 0 4 5.500v6A1.5 1.5 0 0 0 5.5 13H7" />
    </>
  ),
  done: <path d="m4 10.5 4 4 8-9" />,
  again: <path d="M15.5 6.500A6.5 6.5 0 1 0 16.5 10M16 3v4h-4" />,
  edit: <path d="m4 16 .8-3.200L13 4.600a1.7 1.7 0 0 1 2.4 2.400L7.2 15.200Z" />,
  key: (
    <>
      <circle cx="7" cy="13" r="3.5" />
      <path d="m9.5 10.5 6.5-6.5M12.5 7.5l2 2M14.5 5.5l2 2" />
    </>
  ),
  clip: <path d="m15.5 9.500-5.700 5.700a3.500 3.500 0 0 1-5-5l6-6a2.300 2.300 0 0 1 3.300 3.300l-5.900 5.900a1.200 1.200 0 0 1-1.700-1.700l5.300-5.300" />,
  file: <path d="M11.500 3H6a1 1 0 0 0-1 1v12a1 1 0 0 0 1 1h8a1 1 0 0 0 1-1V6.500ZM11.500 3v3.500H15" />,
  prompts: <path d="M6 3h8a1 1 0 0 1 1 1v13l-5-3.500L5 17V4a1 1 0 0 1 1-1Z" />,
  settings: <path d="M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4" />,
  help: (
    <>
      <circle cx="10" cy="10" r="7" />
      <path d="M8 8a2 2 0 1 1 2.800 1.800c-.5.2-.8.6-.8 1.200M10 13.500v.1" />
    </>
  ),
  bin: <path d="M4 6h12M8 6V4h4v2M6 6l.7 10h6.600L14 6" />,
};

/**
 * A drawing beside a word, or in a button that has a name.
 * @param {{name: string}} props
 */
export function Icon({ name }) {
  return (
    <svg
      className="icon"
      viewBox="0 0 20 20"
      width="20"
      height="20"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.6"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {SHAPES[name]}
    </svg>
  );
}
