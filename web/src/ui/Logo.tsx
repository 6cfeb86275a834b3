/** The mark: a j that is also a voice. Its dot is the only warm colour on the page. */
export function Logo({ size = 28 }: { size?: number }) {
  return (
    <svg viewBox="0 0 32 32" width={size} height={size} aria-hidden="true" className="shrink-0">
      <path
        className="fill-brand"
        d="M16 1.5c10 0 14.5 4.5 14.5 14.5S26 30.5 16 30.5c-3 0-5.5-.4-7.5-1.3L2.6 30.5l1-6.3C2.2 22 1.5 19.3 1.5 16 1.5 6 6 1.5 16 1.5Z"
      />
      <path
        className="stroke-brand-ink"
        fill="none"
        strokeWidth="3.4"
        strokeLinecap="round"
        d="M18.8 13.2v6.3c0 3-1.7 4.7-4.3 4.7-1.3 0-2.3-.4-3-1"
      />
      <circle className="fill-signal" cx="18.8" cy="8.3" r="2.3" />
    </svg>
  );
}
